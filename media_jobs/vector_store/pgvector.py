"""The store at scale: PostgreSQL's extension `vector`, with an HNSW index for each space.

The column has no fixed dimensions; an index covers one space through an expression. Its order is that of the inner
product, which for vectors of unit length is the cosine's. Up to 2,000 dimensions are indexed in single precision and up
to 4,000 in half precision; the candidates' whole vectors decide in either case. Longer ones are compared one by one.

Table and indexes are made whenever the database is migrated, wherever the extension can be had. Not by a migration of
their own, since the extension may come later: the next start then finds it and moves the vectors that were kept as
bytes.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import orjson
import structlog
from django.db import ProgrammingError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from media_jobs.vector_store.base import Space, Vector, from_bytes
from media_jobs.vector_store.bulk import copy_into, insert_rows
from media_jobs.vector_store.rows import StoredChunk, VectorSpace
from media_jobs.vector_store.sql import Found, SqlVectorStore

TABLE = "media_jobs_chunkvector"
OLDEST_VERSION = (0, 8)  # iterative scans
# What HNSW can index, by pgvector's limits: https://github.com/pgvector/pgvector#hnsw
MAX_VECTOR_DIMENSIONS = 2000
MAX_HALFVEC_DIMENSIONS = 4000

CREATE_TABLE = f"""
CREATE TABLE {TABLE} (
  chunk_id bigint PRIMARY KEY REFERENCES media_jobs_storedchunk ON DELETE CASCADE,
  media_id bigint NOT NULL,
  space_id bigint NOT NULL,
  embedding vector NOT NULL
);
CREATE INDEX {TABLE}_items ON {TABLE} (media_id, space_id);
"""
COLUMNS = ("chunk_id", "media_id", "space_id", "embedding")
READ = f"SELECT chunk_id, embedding::text FROM {TABLE} WHERE chunk_id = ANY(%s)"  # noqa: S608
# m and ef_construction: pgvector's defaults are 16 and 64.
CREATE_INDEX = """
CREATE INDEX {name} ON {table} USING hnsw ((embedding::{type}({dimensions})) {type}_ip_ops)
WITH (m = 16, ef_construction = 100) WHERE space_id = {space}
"""
LOCK = "SELECT pg_advisory_xact_lock(hashtext('media_jobs_chunkvector'))"
MOVED_ROWS = 500

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

log = structlog.get_logger(__name__)


class PgVectorStore(SqlVectorStore):
    """Vectors in a table of their own, whose rows go when their chunks go."""

    def _space_for(self, space: Space) -> VectorSpace:
        row = super()._space_for(space)
        ensure_index(connections[self.using], row.pk, row.dimensions)
        return row

    def vectors(self, chunk_ids: Collection[int]) -> dict[int, Vector]:
        with connections[self.using].cursor() as cursor:
            cursor.execute(READ, [[int(one) for one in chunk_ids]])
            return {
                chunk_id: np.asarray(orjson.loads(vector), dtype=np.float32)
                for chunk_id, vector in cursor.fetchall()
            }

    def _insert(self, rows: Sequence[StoredChunk], vectors: Sequence[Vector]) -> None:
        insert_rows(rows, self.using)
        values = (
            (row.pk, row.media_id, row.space_id, literal(vector))
            for row, vector in zip(rows, vectors, strict=True)
        )
        copy_into(connections[self.using], TABLE, COLUMNS, values)

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


def prepare(using: str) -> None:
    """Make the table where the extension can be had, and move vectors there that are kept as bytes."""
    connection = connections[using]
    if connection.vendor != "postgresql" or not exists(
        connection, StoredChunk._meta.db_table
    ):
        return
    with transaction.atomic(using=using):
        run(connection, LOCK)
        if not exists(connection, TABLE):
            if problem := _extension_problem(connection):
                log.warning("pgvector_not_used", reason=problem)
                return
            run(connection, CREATE_TABLE)
    # An index is built over many rows in a fraction of the time that it takes to grow by them.
    while _move_some(connection):
        pass
    for space in VectorSpace.objects.using(using).all():
        ensure_index(connection, space.pk, space.dimensions)


def exists(connection: BaseDatabaseWrapper, relation: str) -> bool:
    """Whether there is a table or index of that name."""
    # Not to_regclass: it may answer from before a lock was waited for.
    found = "SELECT 1 FROM pg_class WHERE relname = %s AND pg_table_is_visible(oid)"
    return run(connection, found, relation) is not None


def ensure_index(
    connection: BaseDatabaseWrapper, space_id: int, dimensions: int
) -> None:
    """Make the index of a space, unless it has one or its vectors are too long for any."""
    name = f"{TABLE}_{space_id}"
    kind = indexed_type(dimensions)
    if kind is None or exists(connection, name):
        return
    sql = CREATE_INDEX.format(
        name=name, table=TABLE, type=kind, dimensions=dimensions, space=space_id
    )
    with transaction.atomic(using=connection.alias):
        run(connection, LOCK)
        if not exists(connection, name):
            run(connection, sql)


def indexed_type(dimensions: int) -> str | None:
    """Return the type that an index holds vectors of that length in, or None where there is no index for them."""
    if dimensions <= MAX_VECTOR_DIMENSIONS:
        return "vector"
    return "halfvec" if dimensions <= MAX_HALFVEC_DIMENSIONS else None


def literal(vector: Vector) -> str:
    """Return a vector as pgvector reads it; each number is the shortest that reads back to the same float32."""
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def run(connection: BaseDatabaseWrapper, sql: str, *values: str | int) -> object:
    """Return the first value of the first row, if there is one."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def _extension_problem(connection: BaseDatabaseWrapper) -> str | None:
    """Install the extension, or say why it cannot be used."""
    installed = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    available = "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"
    if run(connection, installed) is None:
        if run(connection, available) is None:
            return "The extension vector is not installed on the database server."
        try:
            with transaction.atomic(using=connection.alias):
                run(connection, "CREATE EXTENSION IF NOT EXISTS vector")
        except ProgrammingError:
            return "The database's owner has to run CREATE EXTENSION vector first."
    version = str(run(connection, installed))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        return f"The extension vector is {version}; ALTER EXTENSION vector UPDATE."
    return None


def _move_some(connection: BaseDatabaseWrapper) -> int:
    """Move vectors that are kept as bytes, and return how many there were."""
    chunks = StoredChunk.objects.using(connection.alias)
    with transaction.atomic(using=connection.alias):
        found = chunks.filter(vector__isnull=False).select_for_update()[:MOVED_ROWS]
        values = [
            (
                chunk.pk,
                chunk.media_id,
                chunk.space_id,
                literal(from_bytes(chunk.vector)),
            )
            for chunk in found.defer("text")
            if chunk.vector is not None
        ]
        copy_into(connection, TABLE, COLUMNS, values)
        chunks.filter(pk__in=[value[0] for value in values]).update(vector=None)
    return len(values)
