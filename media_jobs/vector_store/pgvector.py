"""The store at scale: PostgreSQL's extension `vector`, with an HNSW index for each space.

The column has no fixed dimensions; an index covers one space through an expression. Its order is that of the inner
product, which for vectors of unit length is the cosine's. Up to 2,000 dimensions are indexed in single precision and up
to 4,000 in half precision; the candidates' whole vectors decide in either case. Longer ones are compared one by one.
"""

from collections.abc import Collection, Sequence
from typing import Any

from django.db import connections

from media_jobs.vector_store.base import Space, Vector
from media_jobs.vector_store.pgvector_tables import (
    INSERT,
    TABLE,
    ensure_index,
    indexed_type,
    literal,
)
from media_jobs.vector_store.row_store import Found, RowStore
from media_jobs.vector_store.rows import StoredChunk, VectorSpace
from media_jobs.vector_store.vector_bytes import from_bytes

FEW_CHUNKS = (
    5000  # so many are compared one by one sooner than an index finds them among others
)
MIN_CANDIDATES = 128  # pgvector's own default of 40 loses recall
MAX_CANDIDATES = 1000  # pgvector's limit

# A filter may leave too few of the candidates: then the scan goes on, until it has enough.
TUNE = "SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', %s, true)"
ONE_BY_ONE = """
SELECT chunk_id, -(embedding <#> %(query)s::vector) AS score FROM {table} WHERE {wanted}
ORDER BY score DESC, chunk_id LIMIT %(limit)s
"""
BY_INDEX = """
WITH nearest AS MATERIALIZED (
  SELECT chunk_id, embedding FROM {table} WHERE {wanted}
  ORDER BY (embedding::{type}({dimensions})) <#> %(query)s::{type}({dimensions}) LIMIT %(candidates)s
)
SELECT chunk_id, -(embedding <#> %(query)s::vector) AS score FROM nearest
ORDER BY score DESC, chunk_id LIMIT %(limit)s
"""


class PgVectorStore(RowStore):
    """Vectors in a table of their own, whose rows go when their chunks go."""

    def _space_for(self, space: Space) -> VectorSpace:
        row = super()._space_for(space)
        ensure_index(connections[self.using], row.pk, row.dimensions)
        return row

    def _insert(self, rows: Sequence[StoredChunk], vectors: Sequence[bytes]) -> None:
        self._chunks().bulk_create(rows)
        values = [
            (row.pk, row.media_id, row.space_id, literal(from_bytes(vector)))
            for row, vector in zip(rows, vectors, strict=True)
        ]
        with connections[self.using].cursor() as cursor:
            cursor.executemany(INSERT, values)

    def _nearest(
        self,
        query: Vector,
        space: VectorSpace,
        limit: int,
        media_ids: Collection[int] | None,
    ) -> Found:
        # A number in the text, so that the planner sees whose index it is.
        wanted = f"space_id = {space.pk}"
        values: dict[str, Any] = {"query": literal(query), "limit": limit}
        few = False
        if media_ids is not None:
            wanted += " AND media_id = ANY(%(media_ids)s)"
            values["media_ids"] = [int(media_id) for media_id in media_ids]
            most = FEW_CHUNKS + 1
            few = self._chunk_count(space, media_ids, at_most=most) < most
        found = [] if few else self._by_index(space, wanted, values)
        # Fewer than asked for: there are no more, or the scan gave up on a filter that lets next to nothing through.
        if len(found) < limit:
            found = self._run(ONE_BY_ONE.format(table=TABLE, wanted=wanted), values)
        return found

    def _by_index(
        self, space: VectorSpace, wanted: str, values: dict[str, Any]
    ) -> Found:
        kind = indexed_type(space.dimensions)
        if kind is None:
            return []
        candidates = min(max(2 * values["limit"], MIN_CANDIDATES), MAX_CANDIDATES)
        sql = BY_INDEX.format(
            table=TABLE, wanted=wanted, type=kind, dimensions=space.dimensions
        )
        self._run(TUNE, [str(candidates)])
        return self._run(sql, {**values, "candidates": 2 * values["limit"]})

    def _run(self, sql: str, values: Any) -> Found:
        with connections[self.using].cursor() as cursor:
            cursor.execute(sql, values)
            found: Found = cursor.fetchall()
            return found
