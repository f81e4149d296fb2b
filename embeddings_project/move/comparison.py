"""What the source holds, compared with what arrived: every row, every vector, and what searches find."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import Max, Min

from embeddings_project.move.tables import (
    Digest,
    Model,
    MoveProblem,
    digest_of,
    name_of,
    read,
)
from embeddings_project.move.target import ALIAS
from media_jobs.models import StoredChunk
from media_jobs.vector_store.base import Hit, Space, Vector, from_bytes
from media_jobs.vector_store.store import choose

# A store may keep half precision: of vectors of unit length, no angle is larger.
LEAST_COSINE = 0.9999
READ_ROWS = 500
SEARCHES = 5
TOP_K = 10
NEAR = 0.001
REMEDY = "The source changed since the move began, or the target did: `move_to --again` begins from the first row."

Watch = Callable[[int], None]  # is told how many rows were done


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """How many arrived, and how many of them are the same bit by bit; others are rounded by the target's store."""

    count: int
    exact: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Searches:
    """How many, the chunks that are nearest in them, and how many of these the target's index finds."""

    count: int
    nearest: int
    found: int


def compare_table(model: Model, watch: Watch) -> Digest:
    """Return the digest that both sides have. Raises MoveProblem."""
    here, there = (
        digest_of(_seen(_rows(model, using), watch))
        for using in (DEFAULT_DB_ALIAS, ALIAS)
    )
    if here.rows != there.rows:
        raise MoveProblem(
            f"{name_of(model)} has {here.rows} rows, and {there.rows} in the target. {REMEDY}"
        )
    if here != there:
        raise MoveProblem(f"{name_of(model)} is another one in the target. {REMEDY}")
    return here


def compare_vectors(watch: Watch) -> Vectors:
    """Compare the vectors of all chunks. Raises MoveProblem."""
    store, count, exact, last = choose(ALIAS), 0, 0, 0
    chunks = StoredChunk.objects.using(DEFAULT_DB_ALIAS).order_by("pk")
    while page := [*chunks.filter(pk__gt=last).values_list("pk", "vector")[:READ_ROWS]]:
        arrived = store.vectors([pk for pk, _ in page])
        for pk, data in page:
            here, there = from_bytes(data or b""), arrived.get(pk)
            if there is None or not _is_near(here, there):
                raise MoveProblem(
                    f"The vector of chunk {pk} is another one in the target. {REMEDY}"
                )
            exact += np.array_equal(here, there)
        count, last = count + len(page), page[-1][0]
        watch(len(page))
    return Vectors(count=count, exact=exact)


def compare_searches() -> Searches:
    """Search both sides for chunks from one end of the store to the other.

    Raises MoveProblem where other chunks are nearest in the target. How many of the nearest its index finds, which may
    be approximate, is only counted.
    """
    here, there = choose(DEFAULT_DB_ALIAS), choose(ALIAS)
    count = nearest = found = 0
    for chunk in _some_chunks():
        space = Space(
            provider="",  # a search is in the space, whoever made its vectors
            model="",
            vector_space=chunk.space.vector_space,
            dimensions=chunk.space.dimensions,
        )
        query = from_bytes(chunk.vector or b"")
        wanted = here.search(query, space, top_k=TOP_K)
        items = {hit.media_id for hit in wanted}
        # Bound to so few items, every store compares one by one.
        if not _alike(wanted, there.search(query, space, top_k=TOP_K, media_ids=items)):
            raise MoveProblem(
                f"A search for chunk {chunk.pk} finds something else in the target. {REMEDY}"
            )
        count, nearest = count + 1, nearest + len(wanted)
        found += len(_places(wanted) & _places(there.search(query, space, top_k=TOP_K)))
    return Searches(count=count, nearest=nearest, found=found)


def _rows(model: Model, using: str) -> Iterator[tuple[Any, ...]]:
    with transaction.atomic(using=using):  # in which PostgreSQL reads bit by bit
        yield from read(model._base_manager.using(using).order_by())


def _seen(rows: Iterator[tuple[Any, ...]], watch: Watch) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        watch(1)
        yield row


def _is_near(here: Vector, there: Vector) -> bool:
    if here.shape != there.shape:
        return False
    if np.array_equal(here, there):
        return True
    one, other = here.astype(np.float64), there.astype(np.float64)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) >= LEAST_COSINE * lengths > 0


def _some_chunks() -> list[StoredChunk]:
    chunks = StoredChunk.objects.using(DEFAULT_DB_ALIAS).select_related("space")
    ends = chunks.aggregate(first=Min("pk"), last=Max("pk"))
    if ends["first"] is None:
        return []
    keys = np.linspace(ends["first"], ends["last"], SEARCHES).astype(int).tolist()
    found = {
        chunk.pk: chunk
        for key in keys
        if (chunk := chunks.filter(pk__gte=key).order_by("pk").first())
    }
    return [*found.values()]


def _alike(here: list[Hit], there: list[Hit]) -> bool:
    """Whether the scores are the same but for rounding: equals come in any order."""
    return len(here) == len(there) and all(
        abs(one.score - other.score) <= NEAR
        for one, other in zip(here, there, strict=True)
    )


def _places(hits: list[Hit]) -> set[tuple[int, int]]:
    return {(hit.media_id, hit.chunk_index) for hit in hits}
