"""pgvector's indexes: one for each space, in half precision, over an expression with the space's dimensions.

A small space gets its index at once, and day-to-day changes grow it. Of a large one, such as a bulk load leaves, it is
built by `build_index` in a fraction of that time; until then searches compare every vector.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Sum

from media_jobs.vector_store.rows import ItemVectors, VectorSpace

if TYPE_CHECKING:
    from psycopg.errors import Diagnostic

TABLE = "media_jobs_chunkvector"
# What HNSW can index: https://github.com/pgvector/pgvector#hnsw
MAX_DIMENSIONS = 4000
INDEXED_AT_ONCE = 50_000  # chunks: seconds of work, for which others wait
# m and ef_construction: pgvector's defaults are 16 and 64.
CREATE_INDEX = """
CREATE INDEX {concurrently} {name} ON {table}
USING hnsw ((embedding::halfvec({dimensions})) halfvec_ip_ops)
WITH (m = 16, ef_construction = 100) WHERE space_id = {space}
"""
LOCK = "SELECT pg_advisory_xact_lock(hashtext('media_jobs_chunkvector'))"
# Held by the session that builds. CREATE INDEX CONCURRENTLY waits for transactions, so it must not be held by one.
TAKE_BUILD = "SELECT pg_try_advisory_lock(hashtext('media_jobs_chunkvector_build'))"
LEAVE_BUILD = "SELECT pg_advisory_unlock(hashtext('media_jobs_chunkvector_build'))"
INVALID = """
SELECT quote_ident(relname) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = %s::regclass AND NOT indisvalid LIMIT 1
"""
# The type of a space's index that can be used; 0.1.0 made them of `vector`.
USED = """
SELECT CASE WHEN pg_get_indexdef(indexrelid) LIKE '%%halfvec%%' THEN 'halfvec' ELSE 'vector' END
FROM pg_index WHERE indisvalid AND indexrelid IN (to_regclass(%s), to_regclass(%s)) ORDER BY 1 LIMIT 1
"""
PROGRESS = (
    "SELECT phase, tuples_done FROM pg_stat_progress_create_index WHERE pid = %s::int"
)
LOOK_SECONDS = 1.0
# What an element of the graph takes beside its vector while it is built, at m = 16.
NODE_BYTES = 760
LEAST_MEMORY, MOST_MEMORY = 64 * 2**20, 2 * 2**30

log = structlog.get_logger(__name__)


class BuildRefused(Exception):
    """An index cannot be built now; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildProgress:
    """How far a build is. `phase`: as PostgreSQL names it."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """`memory_bytes` None: what the graph takes, up to MOST_MEMORY; `workers` None: as many as the database's default.

    `again`: also where there is an index already.
    """

    memory_bytes: int | None = None
    workers: int | None = None
    again: bool = False


def index_name(space_id: int) -> str:
    return f"{TABLE}_{space_id}_half"


def old_index_name(space_id: int) -> str:
    """Return the name of an index in single precision, as 0.1.0 made them."""
    return f"{TABLE}_{space_id}"


def used_type(connection: BaseDatabaseWrapper, space_id: int) -> str | None:
    """Return the type of the space's index, or None where searches have none to use."""
    found = run(connection, USED, index_name(space_id), old_index_name(space_id))
    return None if found is None else str(found)


def has_current_index(connection: BaseDatabaseWrapper, space: VectorSpace) -> bool:
    return used_type(connection, space.pk) == "halfvec"


def ensure_index(connection: BaseDatabaseWrapper, space: VectorSpace) -> None:
    """Make the index of a space that has none, unless it is large or its vectors are too long for any."""
    names = (index_name(space.pk), old_index_name(space.pk))
    if space.dimensions > MAX_DIMENSIONS or any(
        exists(connection, one) for one in names
    ):
        return
    if chunk_count(connection.alias, space) > INDEXED_AT_ONCE:
        return
    with transaction.atomic(using=connection.alias):
        run(connection, LOCK)
        if not exists(connection, names[0]):
            run(connection, create_index(space))


def build_index(
    using: str,
    space: VectorSpace,
    options: BuildOptions,
    report: Callable[[BuildProgress], None] = lambda _: None,
) -> str | None:
    """Build the index of a space while others read and write, in the place of an older one.

    Returns a warning if it was short of memory. Raises BuildRefused, and DatabaseError; then the index that was there
    still is.
    """
    if space.dimensions > MAX_DIMENSIONS:
        raise BuildRefused(
            f"Vectors of more than {MAX_DIMENSIONS} dimensions cannot be indexed: they are compared one by one."
        )
    connection = connections[using]
    total = chunk_count(using, space)
    name = index_name(space.pk)
    with _alone(connection), _tuned(connection, options, total, space.dimensions):
        _drop_unfinished(connection)
        work = create_index(space, concurrently=True)
        if exists(connection, name):
            work = f"REINDEX INDEX CONCURRENTLY {name}" if options.again else ""
        with _notices(connection) as notices, _watched(connection, total, report):
            try:
                if work:
                    run(connection, work)
            except BaseException:
                with suppress(DatabaseError):
                    _drop_unfinished(connection)
                raise
        run(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {old_index_name(space.pk)}")
        run(connection, f"ANALYZE {TABLE}")
    return next((one for one in notices if "maintenance_work_mem" in one), None)


def convert(using: str, kind: str) -> None:
    """Rewrite the stored vectors as `halfvec` or `vector`: nobody reads or writes meanwhile, and all indexes go."""
    connection = connections[using]
    with transaction.atomic(using=using):
        run(connection, LOCK)
        for space in VectorSpace.objects.using(using):
            for name in (index_name(space.pk), old_index_name(space.pk)):
                run(connection, f"DROP INDEX IF EXISTS {name}")
        run(
            connection,
            f"ALTER TABLE {TABLE} ALTER COLUMN embedding TYPE {kind} USING embedding::{kind}",
        )


def stored_type(connection: BaseDatabaseWrapper) -> str:
    """Return the type of the stored vectors."""
    found = "SELECT atttypid::regtype FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'embedding'"
    return str(run(connection, found, TABLE)).rpartition(".")[2]


def create_index(space: VectorSpace, *, concurrently: bool = False) -> str:
    return CREATE_INDEX.format(
        concurrently="CONCURRENTLY" if concurrently else "",
        name=index_name(space.pk),
        table=TABLE,
        dimensions=space.dimensions,
        space=space.pk,
    )


def chunk_count(using: str, space: VectorSpace) -> int:
    items = ItemVectors.objects.using(using).filter(space=space)
    count: int = items.aggregate(sum=Sum("chunks", default=0))["sum"]
    return count


def exists(connection: BaseDatabaseWrapper, relation: str) -> bool:
    """Whether there is a table or index of that name."""
    # Not to_regclass: it may answer from before a lock was waited for.
    found = "SELECT 1 FROM pg_class WHERE relname = %s AND pg_table_is_visible(oid)"
    return run(connection, found, relation) is not None


def run(connection: BaseDatabaseWrapper, sql: str, *values: str | int) -> object:
    """Return the first value of the first row, if there is one."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def _drop_unfinished(connection: BaseDatabaseWrapper) -> None:
    """Remove what a build that was killed left: no search uses it, and each change still pays for it."""
    while name := run(connection, INVALID, TABLE):
        run(connection, f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


@contextmanager
def _alone(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Let one session at a time build. Raises BuildRefused."""
    if not run(connection, TAKE_BUILD):
        raise BuildRefused("Another process builds an index of this database now.")
    try:
        yield
    finally:
        with suppress(DatabaseError):  # a connection that is gone holds no lock
            run(connection, LEAVE_BUILD)


@contextmanager
def _tuned(
    connection: BaseDatabaseWrapper, options: BuildOptions, chunks: int, dimensions: int
) -> Iterator[None]:
    """Give the session the memory and workers of a build."""
    graph = chunks * (2 * dimensions + NODE_BYTES)
    memory = options.memory_bytes or min(max(graph, LEAST_MEMORY), MOST_MEMORY)
    settings = {"maintenance_work_mem": f"{memory // 1024}kB"}
    if options.workers is not None:
        settings["max_parallel_maintenance_workers"] = str(options.workers)
    for name, value in settings.items():
        run(connection, "SELECT set_config(%s, %s, false)", name, value)
    try:
        yield
    finally:
        with suppress(DatabaseError):
            for name in settings:
                run(connection, f"RESET {name}")


@contextmanager
def _notices(connection: BaseDatabaseWrapper) -> Iterator[list[str]]:
    """Collect what the server says meanwhile."""
    said: list[str] = []

    def handle(notice: "Diagnostic") -> None:
        said.append(notice.message_primary or "")

    connection.connection.add_notice_handler(handle)
    try:
        yield said
    finally:
        connection.connection.remove_notice_handler(handle)


@contextmanager
def _watched(
    connection: BaseDatabaseWrapper,
    total: int,
    report: Callable[[BuildProgress], None],
) -> Iterator[None]:
    """Report each second how far the work of this connection is, over another one."""
    pid = str(run(connection, "SELECT pg_backend_pid()"))
    done = threading.Event()

    def watch() -> None:
        own = connection.copy()
        try:
            while not done.wait(LOOK_SECONDS):
                with own.cursor() as cursor:
                    cursor.execute(PROGRESS, [pid])
                    for phase, tuples in cursor.fetchall():
                        report(BuildProgress(phase=phase, done=tuples, total=total))
        except DatabaseError as error:
            log.warning("index_progress_unknown", reason=repr(error))
        finally:
            own.close()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
