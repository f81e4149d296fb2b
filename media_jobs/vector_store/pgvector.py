"""The store at scale: PostgreSQL's extension `vector`, with an HNSW index for each space.

The column has no fixed dimensions. Its type is MEDIA_PGVECTOR_TYPE's when it is made: `halfvec` is half the size, and
cosines are within 0.0005. Order is that of the inner product, which for vectors of unit length is the cosine's. Of the
candidates that an index finds, the stored vectors decide; those too long for an index are compared one by one.

Table and indexes are made whenever the database is migrated, wherever the extension can be had. Not by a migration of
their own, since the extension may come later: the next start then finds it and moves the vectors that were kept as
bytes.
"""

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import orjson
import structlog
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, ProgrammingError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from media_jobs.conf import conf
from media_jobs.vector_store.base import Space, Vector, from_bytes
from media_jobs.vector_store.bulk import insert_rows
from media_jobs.vector_store.pgvector_copy import copy_rows
from media_jobs.vector_store.pgvector_index import (
    LOCK,
    MAX_DIMENSIONS,
    TABLE,
    BuildOptions,
    build_index,
    chunk_count,
    ensure_index,
    exists,
    run,
    used_type,
)
from media_jobs.vector_store.rows import StoredChunk, VectorSpace
from media_jobs.vector_store.sql import Found, SqlVectorStore

# Earlier ones read and write beyond a buffer (CVE-2026-3172, until 0.8.1) and corrupt indexes while they are vacuumed
# (until 0.8.3): https://github.com/pgvector/pgvector/blob/master/CHANGELOG.md
OLDEST_VERSION = (0, 8, 4)

CREATE_TABLE = f"""
CREATE TABLE {TABLE} (
  chunk_id bigint PRIMARY KEY REFERENCES media_jobs_storedchunk ON DELETE CASCADE,
  media_id bigint NOT NULL,
  space_id bigint NOT NULL,
  embedding {{type}} NOT NULL
);
CREATE INDEX {TABLE}_items ON {TABLE} (media_id, space_id);
"""
READ = f"SELECT chunk_id, embedding::text FROM {TABLE} WHERE chunk_id = ANY(%s)"  # noqa: S608
MOVED_ROWS = 500

FEW_CHUNKS = (
    5000  # so many are compared one by one sooner than an index finds them among others
)
MAX_CANDIDATES = 1000  # pgvector's limit

# A filter may leave too few of the candidates: then the scan goes on, until it has enough.
TUNE = "SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', %s, true)"
ONE_BY_ONE = """
SELECT chunk_id, -(embedding::vector <#> %(query)s::vector) AS score FROM {table} WHERE {wanted}
ORDER BY score DESC, chunk_id LIMIT %(limit)s
"""
BY_INDEX = """
WITH nearest AS MATERIALIZED (
  SELECT chunk_id, embedding FROM {table} WHERE {wanted}
  ORDER BY (embedding::{type}({dimensions})) <#> %(query)s::{type}({dimensions}) LIMIT %(candidates)s
)
SELECT chunk_id, -(embedding::vector <#> %(query)s::vector) AS score FROM nearest
ORDER BY score DESC, chunk_id LIMIT %(limit)s
"""

log = structlog.get_logger(__name__)


class PgVectorStore(SqlVectorStore):
    """Vectors in a table of their own, whose rows go when their chunks go."""

    def __init__(self, using: str = DEFAULT_DB_ALIAS) -> None:
        super().__init__(using)
        self._unindexed: set[int] = set()

    def slow_searches(self) -> list[str]:
        connection = connections[self.using]
        return [
            f"The {chunk_count(self.using, space)} chunks of {space} have no index: each search compares all of them."
            " Run manage.py build_index."
            for space in self._spaces().filter(dimensions__lte=MAX_DIMENSIONS)
            if used_type(connection, space.pk) is None
        ]

    def build_index(self, space: Space) -> None:
        row = self._row_of(space)
        connection = connections[self.using]
        if row.dimensions <= MAX_DIMENSIONS and not used_type(connection, row.pk):
            warning = build_index(self.using, row, BuildOptions())
            if warning:
                log.warning("index_built_slowly", reason=warning)

    def _space_for(self, space: Space) -> VectorSpace:
        row = super()._space_for(space)
        ensure_index(connections[self.using], row)
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
        copy_rows(connections[self.using], rows, vectors)

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
        if space.dimensions > MAX_DIMENSIONS:
            return []
        width = max(2 * values["limit"], conf().pgvector_ef_search)
        sql = BY_INDEX.format(
            table=TABLE,
            wanted=wanted,
            type=self._indexed_type(space),
            dimensions=space.dimensions,
        )
        self._run(TUNE, [str(min(width, MAX_CANDIDATES))])
        return self._run(sql, {**values, "candidates": 2 * values["limit"]})

    def _indexed_type(self, space: VectorSpace) -> str:
        """Return the type of the space's index. Where there is none, the same query compares all."""
        found = used_type(connections[self.using], space.pk)
        if found:
            self._unindexed.discard(space.pk)
        elif space.pk not in self._unindexed:
            self._unindexed.add(space.pk)
            log.warning(
                "search_without_index",
                space=str(space),
                remedy="manage.py build_index",
            )
        return found or "halfvec"

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
            run(connection, CREATE_TABLE.format(type=conf().pgvector_type))
        elif problem := _extension_problem(connection):
            raise CommandError(problem)
    # An index is built over many rows in a fraction of the time that it takes to grow by them.
    last = 0
    while moved := _move_some(connection, last):
        last = moved
    for space in VectorSpace.objects.using(using).all():
        ensure_index(connection, space)


def literal(vector: Vector) -> str:
    """Return a vector as pgvector reads it; each number is the shortest that reads back to the same float32."""
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY).decode()


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
    if _is_old(run(connection, installed)):
        with suppress(ProgrammingError), transaction.atomic(using=connection.alias):
            run(connection, "ALTER EXTENSION vector UPDATE")
    version = run(connection, installed)
    if _is_old(version):
        oldest = ".".join(map(str, OLDEST_VERSION))
        return (
            f"The extension vector is {version}, whose faults corrupt indexes. Install {oldest} or later on the"
            " database server, let a superuser run ALTER EXTENSION vector UPDATE, and start the server again. Indexes"
            " that there are: manage.py build_index --again."
        )
    return None


def _is_old(version: object) -> bool:
    numbers = re.findall(r"\d+", str(version))
    return tuple(map(int, numbers[:3])) < OLDEST_VERSION


def _move_some(connection: BaseDatabaseWrapper, after: int) -> int | None:
    """Move vectors that are kept as bytes, of chunks beyond `after`, and return the last one's id."""
    chunks = StoredChunk.objects.using(connection.alias)
    kept = chunks.filter(pk__gt=after, vector__isnull=False).order_by("pk")
    with transaction.atomic(using=connection.alias):
        found = list(kept.select_for_update().defer("text")[:MOVED_ROWS])
        copy_rows(connection, found, [from_bytes(row.vector or b"") for row in found])
        chunks.filter(pk__in=[row.pk for row in found]).update(vector=None)
    return found[-1].pk if found else None
