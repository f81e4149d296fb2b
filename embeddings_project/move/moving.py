"""The whole move, in its order: nobody writes, the target is ready, rows are copied, rows are compared."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.color import no_style
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from embeddings.services.processes import what_runs
from embeddings_project.move.comparison import (
    Searches,
    Vectors,
    compare_searches,
    compare_table,
    compare_vectors,
)
from embeddings_project.move.copying import copy_table
from embeddings_project.move.tables import Model, MoveProblem, carried, name_of
from embeddings_project.move.target import ALIAS, Target, connected
from embeddings_project.releases import is_newer, is_older
from media_jobs.apps import prepare_vectors
from media_jobs.models import StoredChunk
from media_jobs.vector_store.store import choose
from providers.command import COMMAND

# Told what is done now, how many rows of it there are, and then again and again how many more were done.
Begin = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was carried over; `at`: when it was finished, if that was in an earlier run."""

    tables: int
    rows: int
    vectors: Vectors
    searches: Searches
    at: str | None = None


def move_to(url: str, *, again: bool, begin: Begin) -> Moved:
    """Carry this installation over to the PostgreSQL of that URL. Raises MoveProblem.

    May be killed at any moment: the next run goes on where this one was.
    """
    _require_sqlite()
    if problem := what_runs(settings.DATA_DIR):
        raise MoveProblem(problem)
    with _kept_still() as source, connected(url) as target:
        target.begin(source, again=again)
        if finished := target.read("finished"):
            return _read(finished)
        for model in carried():
            copy_table(model, target, begin(f"copying {name_of(model)}", _count(model)))
        _finish_tables(begin)
        return _compare(target, begin)


def _require_sqlite() -> None:
    source = connections[DEFAULT_DB_ALIAS]
    if source.vendor != "sqlite":
        raise MoveProblem(
            "The data already lie in PostgreSQL: pg_dump and pg_restore carry them over. To move an embedded"
            " installation, run this without DATABASE_URL, or with the one of its SQLite file."
        )
    if not Path(file := source.settings_dict["NAME"]).exists():
        raise MoveProblem(
            f"There is no database at {file}. See that DATA_DIR is right."
        )
    if is_older(DEFAULT_DB_ALIAS):
        raise MoveProblem(
            f"The database is older than this release. Run `{COMMAND} migrate` first."
        )
    if is_newer(MigrationRecorder(source).applied_migrations()):
        raise MoveProblem("The database was written by a newer release. Run that one.")


@contextmanager
def _kept_still() -> Iterator[str]:
    """Hold the source's write lock inside of the `with`, and give the name of the installation, which copies share."""
    try:
        with transaction.atomic(using=DEFAULT_DB_ALIAS):
            yield _installation()
    except OperationalError as error:
        if "locked" not in str(error):
            raise
        raise MoveProblem(
            "Something writes to the database. Stop it, and run the command again."
        ) from error


def _installation() -> str:
    """Return a hash of the moments of the first migrations."""
    rows = MigrationRecorder(connections[DEFAULT_DB_ALIAS]).migration_qs
    first = rows.order_by("id").values_list("app", "name", "applied")[:10]
    return hashlib.sha256(repr([*first]).encode()).hexdigest()


def _count(model: Model) -> int:
    return model._base_manager.using(DEFAULT_DB_ALIAS).count()


def _finish_tables(begin: Begin) -> None:
    """Let keys go on behind the copied ones, and build what is built faster over many rows than along with them."""
    begin("indexing vectors", 0)
    prepare_vectors(using=ALIAS)
    store = choose(ALIAS)
    for space in store.stats().spaces:
        store.build_index(space)
    connection = connections[ALIAS]
    with connection.cursor() as cursor:
        for sql in connection.ops.sequence_reset_sql(no_style(), carried()):
            cursor.execute(sql)
        cursor.execute("ANALYZE")


def _compare(target: Target, begin: Begin) -> Moved:
    digests = {
        name_of(model): compare_table(
            model, begin(f"comparing {name_of(model)}", 2 * _count(model))
        )
        for model in carried()
    }
    vectors = compare_vectors(begin("comparing vectors", _count(StoredChunk)))
    begin("comparing searches", 0)
    done = Moved(
        tables=len(digests),
        rows=sum(digest.rows for digest in digests.values()),
        vectors=vectors,
        searches=compare_searches(),
    )
    at = timezone.now().isoformat(timespec="seconds")
    target.write("finished", {**asdict(done), "at": at})
    return done


def _read(finished: dict[str, Any]) -> Moved:
    vectors, searches = finished.pop("vectors"), finished.pop("searches")
    return Moved(vectors=Vectors(**vectors), searches=Searches(**searches), **finished)
