"""The embedded store: vectors are bytes in the database, and a copy of them in memory, coded, says which to compare.

All processes of a server share the copy; any other process has one of its own. It follows the space's version, which
grows in the transaction of every change: what another process stored or removed is seen by the next search.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import QuerySet, Sum

from media_jobs.conf import conf
from media_jobs.vector_store.base import Vector, from_bytes, to_bytes
from media_jobs.vector_store.bulk import insert_rows
from media_jobs.vector_store.coded import CodedVectors, Floats
from media_jobs.vector_store.matrix import (
    BLOCK_ROWS,
    Block,
    Ids,
    Keep,
    Matrix,
    MatrixMemory,
    as_ids,
    best,
    row_bytes,
)
from media_jobs.vector_store.rows import StoredChunk, VectorSpace
from media_jobs.vector_store.shared import SharedMatrices
from media_jobs.vector_store.sql import Found, SqlVectorStore, one_of
from providers.state.server_folder import server_folder

READ_ROWS = 512  # at a time: a whole block's rows as objects would leave holes in the process's memory
FEW_CHUNKS = 1000  # so many are read and compared sooner than a whole copy is

Read = tuple[Ids, Ids, Floats]  # ids of chunks, of their items, and float32 (n, d)


class OrmVectorStore(SqlVectorStore):
    """Vectors in the chunks' rows. `memory_bytes` bounds the copies; a space beyond it is read at every search."""

    def __init__(
        self, using: str = DEFAULT_DB_ALIAS, *, memory_bytes: int | None = None
    ) -> None:
        super().__init__(using)
        if memory_bytes is None:
            memory_bytes = conf().search_memory_bytes
        self._max_bytes = memory_bytes
        self._memory = self._memory_of(server_folder(), memory_bytes)

    @property
    def memory_bytes(self) -> int:
        """How much the copies take now."""
        return self._memory.size_bytes

    def slow_searches(self) -> list[str]:
        return [
            f"The {count} chunks of {space} take {needed} bytes of memory, more than MEDIA_SEARCH_MEMORY_BYTES ="
            f" {self._max_bytes}: each search reads all of them from the database. Raise the setting, or use pgvector."
            for space in self._spaces()
            for count in [self._row_count(space)]
            for needed in [count * row_bytes(space.dimensions)]
            if needed > self._max_bytes
        ]

    def _memory_of(
        self, folder: Path | None, max_bytes: int
    ) -> MatrixMemory | SharedMatrices:
        if folder is None:
            return MatrixMemory(max_bytes)
        settings = connections[self.using].settings_dict
        database = [str(settings[name]) for name in ("ENGINE", "HOST", "PORT", "NAME")]
        return SharedMatrices(folder / "search", max_bytes, database=database)

    def vectors(self, chunk_ids: Collection[int]) -> dict[int, Vector]:
        rows = self._chunks().filter(pk__in=one_of(chunk_ids, self.using))
        found = rows.exclude(vector=None).values_list("pk", "vector")
        return {pk: from_bytes(vector) for pk, vector in found if vector is not None}

    def _insert(self, rows: Sequence[StoredChunk], vectors: Sequence[Vector]) -> None:
        for row, vector in zip(rows, vectors, strict=True):
            row.vector = to_bytes(vector)
        insert_rows(rows, self.using)

    def _nearest(
        self,
        query: Vector,
        space: VectorSpace,
        limit: int,
        media_ids: Collection[int] | None,
    ) -> Found:
        if self._are_few(space, media_ids):
            return self._scan(query, space, limit, media_ids)
        matrix = self._memory.get(space)
        if matrix is None:
            matrix = self._memory.refreshed(space, self._row_count, self._refresh)
        if matrix is None:
            return self._scan(query, space, limit, media_ids)
        whole = self.vectors(matrix.candidates(query, limit, media_ids))
        if not whole:
            return []
        return nearest(as_ids(whole), np.stack([*whole.values()]), query, limit)

    def _are_few(self, space: VectorSpace, media_ids: Collection[int] | None) -> bool:
        if media_ids is None or len(media_ids) > FEW_CHUNKS:
            return False
        most = FEW_CHUNKS + 1
        return self._chunk_count(space, media_ids, at_most=most) < most

    def _row_count(self, space: VectorSpace) -> int:
        count: int = self._items_of(space).aggregate(sum=Sum("chunks", default=0))[
            "sum"
        ]
        return count

    def _refresh(self, held: Matrix | None, space: VectorSpace, keep: Keep) -> Matrix:
        """Bring `held` to the space's version: read what is newer, drop what is gone."""
        if held is None:
            rows = self._chunks().filter(space=space)
            return Matrix(version=space.version).updated(
                space.version, self._blocks(rows, space), keep
            )
        items = self._items_of(space)
        newer = items.filter(version__gt=held.version).values_list(
            "media_id", flat=True
        )
        changed = as_ids(newer)
        matrix = held.without(changed)
        if len(matrix.media_ids()) + len(changed) != items.count():
            present = as_ids(items.values_list("media_id", flat=True))
            matrix = matrix.without(np.setdiff1d(matrix.media_ids(), present))
        rows = self._chunks().filter(media_id__in=newer)
        return matrix.updated(space.version, self._blocks(rows, space), keep)

    def _scan(
        self,
        query: Vector,
        space: VectorSpace,
        limit: int,
        media_ids: Collection[int] | None,
    ) -> Found:
        """Search without a copy, a block at a time."""
        rows = self._chunks().filter(space=space)
        if media_ids is not None:
            items = self._items_of(space, media_ids)
            rows = self._chunks().filter(media_id__in=items.values("media_id"))
        found: Found = []
        for chunk_ids, _, vectors in self._read(rows, space):
            found += nearest(chunk_ids, vectors, query, limit)
            found = sorted(found, key=lambda hit: (-hit[1], hit[0]))[:limit]
        return found

    def _blocks(
        self, rows: QuerySet[StoredChunk], space: VectorSpace
    ) -> Iterator[Block]:
        for chunk_ids, media_ids, vectors in self._read(rows, space):
            yield Block.of(chunk_ids, media_ids, CodedVectors.of(vectors))

    def _read(self, rows: QuerySet[StoredChunk], space: VectorSpace) -> Iterator[Read]:
        rows = rows.filter(vector__isnull=False)
        size = min(READ_ROWS, BLOCK_ROWS)
        values = rows.values_list("pk", "media_id", "vector").iterator(size)
        batches = iter(lambda: list(islice(values, size)), [])
        parts = (arrays_of(batch, space.dimensions) for batch in batches)
        while some := list(islice(parts, BLOCK_ROWS // size)):
            chunk_ids, media_ids, vectors = zip(*some, strict=True)
            yield (
                np.concatenate(chunk_ids),
                np.concatenate(media_ids),
                np.concatenate(vectors),
            )


def arrays_of(rows: Sequence[tuple[Any, ...]], dimensions: int) -> Read:
    """Return as arrays rows of chunk id, item id and vector."""
    chunk_ids, media_ids, vectors = zip(*rows, strict=True)
    whole = from_bytes(b"".join(vectors)).reshape(-1, dimensions)
    return as_ids(chunk_ids), as_ids(media_ids), whole


def nearest(chunk_ids: Ids, vectors: Floats, query: Vector, limit: int) -> Found:
    """Return the best `limit` with their cosines, best first, equals in the order of their ids."""
    # Not `@`: OpenBLAS would spread it over all cores, and its threads would wait for each other while the engine runs
    # there: on two busy cores it took five times the CPU time of one thread that reads memory at full speed.
    return best(chunk_ids, np.vecdot(vectors, query), limit)
