"""Stored vectors on a map in two dimensions: those of one document, or of many. A bounded sample of either."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from django.db.models import Count, QuerySet
from django.db.models.functions import Left

from embeddings.services.callers import Caller
from embeddings.services.similarity import projected
from media_jobs.models import ItemVectors, MediaItem, StoredChunk
from media_jobs.services.items import sees_all_items
from media_jobs.vector_store.store import vector_store

MAX_POINTS = 300
NAME_CHARACTERS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One chunk on the map."""

    media_id: int
    chunk_index: int
    name: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorMap:
    """`total`: how many there are; `share`: how much of the variance the map shows."""

    points: Sequence[Point]
    total: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceCount:
    """A vector space, and how many documents have their vectors there."""

    id: int
    vector_space: str
    dimensions: int
    documents: int


def item_map(item: MediaItem) -> VectorMap:
    """Return a document's chunks, of more than MAX_POINTS as many, evenly spread."""
    total = item.embedding_count
    chosen = {number * total // MAX_POINTS for number in range(MAX_POINTS)}
    rows = StoredChunk.objects.filter(media_id=item.pk)
    if total > MAX_POINTS:
        rows = rows.filter(index__in=chosen)
    return _mapped(rows.order_by("index")[:MAX_POINTS], total=total)


def map_spaces(caller: Caller) -> list[SpaceCount]:
    """Return the spaces of the documents that `caller` may see, the fullest first."""
    groups = _visible(caller).values_list(
        "space_id", "space__vector_space", "space__dimensions"
    )
    return [
        SpaceCount(id=pk, vector_space=name, dimensions=size, documents=count)
        for pk, name, size, count in groups.annotate(count=Count("pk")).order_by(
            "-count", "space_id"
        )
    ]


def documents_map(caller: Caller, space: SpaceCount) -> VectorMap:
    """Return the documents of a space that were embedded last, each by its first chunk."""
    newest = _visible(caller).filter(space_id=space.id).order_by("-version", "pk")
    ids = list(newest.values_list("media_id", flat=True)[:MAX_POINTS])
    titles = dict(MediaItem.objects.filter(pk__in=ids).values_list("pk", "title"))
    rows = StoredChunk.objects.filter(media_id__in=ids, index=0).order_by("media_id")
    return _mapped(rows, total=space.documents, names=titles, space_id=space.id)


def _visible(caller: Caller) -> QuerySet[ItemVectors]:
    items = ItemVectors.objects.all()
    return (
        items if sees_all_items(caller) else items.filter(media__owner=caller.user_id)
    )


def _mapped(
    rows: QuerySet[StoredChunk],
    *,
    total: int,
    names: Mapping[int, str] | None = None,
    space_id: int | None = None,
) -> VectorMap:
    text = Left("text", NAME_CHARACTERS)
    # Not by SQL: SQLite would then look at all chunks of the space.
    found = [
        (pk, media_id, index, start)
        for pk, space, media_id, index, start in rows.values_list(
            "pk", "space_id", "media_id", "index", text
        )
        if space_id in (None, space)
    ]
    vectors = vector_store().vectors([pk for pk, *_ in found])
    known = [row for row in found if row[0] in vectors]
    if not known:
        return VectorMap(points=[], total=total, share=1.0)
    drawn = projected(np.stack([vectors[pk] for pk, *_ in known]))
    points = [
        Point(
            media_id=media_id,
            chunk_index=index,
            name=names.get(media_id, "") if names is not None else text,
            x=round(x, 4),
            y=round(y, 4),
        )
        for (_, media_id, index, text), (x, y) in zip(
            known, drawn.points.tolist(), strict=True
        )
    ]
    return VectorMap(points=points, total=total, share=drawn.share)
