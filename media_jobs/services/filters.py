"""Which documents a search is about: by id, by their fields, by their metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.fields.json import KeyTransform

from embeddings.services.callers import Caller
from embeddings.services.errors import NotFound
from media_jobs.models import MediaItem
from media_jobs.services.items import visible_items


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What a document must be like. `metadata`: path (`author.name`) -> value, or several of which one fits."""

    title: str | None = None
    language: str | None = None
    source_filename: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


NO_FILTERS = Filters()


def chosen_ids(
    caller: Caller, *, media_ids: Sequence[int] | None, filters: Filters
) -> set[int] | None:
    """Return the documents of a search; None: all there are. Raises NotFound for an id that `caller` may not see."""
    if caller.is_admin and media_ids is None and filters == NO_FILTERS:
        return None
    items = visible_items(caller)
    if media_ids is not None:
        known = set(items.filter(pk__in=media_ids).values_list("pk", flat=True))
        missing = [media_id for media_id in media_ids if media_id not in known]
        if missing:
            raise NotFound(f"There is no media item {missing[0]}.", param="media_ids")
        items = items.filter(pk__in=known)
    return set(_filtered(items, filters).values_list("pk", flat=True))


def _filtered(items: QuerySet[MediaItem], filters: Filters) -> QuerySet[MediaItem]:
    wanted = {
        "title__icontains": filters.title,
        "language": filters.language,
        "source_filename": filters.source_filename,
        "created_at__gte": filters.created_after,
        "created_at__lt": filters.created_before,
    }
    items = items.filter(
        **{name: value for name, value in wanted.items() if value is not None}
    )
    for number, (path, value) in enumerate(filters.metadata.items()):
        alias = f"metadata_{number}"
        items = items.alias(**{alias: _at(path)})
        values = value if isinstance(value, list) else [value]
        fits = Q()
        for one in values:
            fits |= Q(**{alias: one})
        items = items.filter(fits)
    return items


def _at(path: str) -> Any:
    place: Any = "metadata"
    for key in path.split("."):
        place = KeyTransform(key, place)
    return place
