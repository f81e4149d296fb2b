"""The database that the data is carried to: it must be empty, or hold what an earlier run of the same move left."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    NotSupportedError,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from embeddings_project.databases import read_database
from embeddings_project.move.tables import Model, MoveProblem, carried, name_of
from embeddings_project.releases import is_older
from media_jobs.vector_store.pgvector_index import run

ALIAS = "move_target"
OWN_PREFIXES = ("embeddings_", "media_jobs_", "providers_")
# The name of a table with how much of it was copied, or of what else is to be remembered, with JSON.
RECORD = "embeddings_move"
CREATE_RECORD = (
    f"CREATE TABLE IF NOT EXISTS {RECORD} (name text PRIMARY KEY, value text NOT NULL)"
)
READ = f"SELECT value FROM {RECORD} WHERE name = %s"  # noqa: S608
WRITE = (
    f"INSERT INTO {RECORD} (name, value) VALUES (%s, %s)"  # noqa: S608
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
LOCK = "SELECT pg_try_advisory_lock(hashtext('embeddings_move'))"
# Filled by Django when it migrates; the source's rows, to which others refer, take their place.
FILLED: tuple[Model, ...] = (Permission, ContentType)


class Target:
    """The target, connected as ALIAS and locked against a second run. What is done lies in the database itself."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection

    def begin(self, source: str, *, again: bool) -> None:
        """Make the tables, or find those of the run before. `source` names the installation. Raises MoveProblem."""
        tables = self._tables()
        if RECORD in tables and (before := self.read("source")) is not None:
            self._resume(before == source, again=again)
            return
        self._refuse_foreign(tables)
        run(self._connection, CREATE_RECORD)
        call_command("migrate", database=ALIAS, interactive=False, verbosity=0)
        with transaction.atomic(using=ALIAS):
            for model in FILLED:
                model._base_manager.using(ALIAS).all().delete()
            self.write("source", source)

    def read(self, name: str) -> Any:
        """Return what was written under that name, or None."""
        value = run(self._connection, READ, name)
        return None if value is None else json.loads(str(value))

    def write(self, name: str, value: Any) -> None:
        """Remember a value, in the transaction under way."""
        run(self._connection, WRITE, name, json.dumps(value))

    def _resume(self, same: bool, *, again: bool) -> None:  # noqa: FBT001
        if not same:
            raise MoveProblem(
                "The target holds what was moved from another installation. Give an empty database."
            )
        if is_older(ALIAS):
            raise MoveProblem(
                "This move was begun with another release. Go on with that one, or make the target empty."
            )
        if again:
            self._empty()

    def _empty(self) -> None:
        """Begin from the first row. Raises MoveProblem where a server may have used the target since."""
        if self.read("finished"):
            raise MoveProblem(
                "This move is finished, and the target may be in use: it is not emptied. Give another database."
            )
        quoted = ", ".join(f'"{name_of(model)}"' for model in carried())
        with transaction.atomic(using=ALIAS):
            source = self.read("source")
            run(self._connection, f"TRUNCATE {quoted}, {RECORD} CASCADE")
            self.write("source", source)

    def _tables(self) -> set[str]:
        with self._connection.cursor() as cursor:
            return {*self._connection.introspection.table_names(cursor)}

    def _refuse_foreign(self, tables: set[str]) -> None:
        known = {
            *self._connection.introspection.django_table_names(),
            "django_migrations",
        }
        foreign = [
            name for name in sorted(tables - known) if not name.startswith(OWN_PREFIXES)
        ]
        if foreign:
            raise MoveProblem(
                f"The target holds tables of something else ({', '.join(foreign[:3])}). Give an empty database."
            )
        for model in carried():
            if name_of(model) not in tables or model in FILLED:
                continue
            if model._base_manager.using(ALIAS).exists():
                raise MoveProblem(
                    f"The target is not empty: {name_of(model)} holds rows. Give an empty database."
                )


@contextmanager
def connected(url: str) -> Iterator[Target]:
    """Connect to the target inside of the `with`. Raises MoveProblem."""
    try:
        settings = read_database(url)
    except ValueError as error:
        raise MoveProblem(
            "The target must look like postgres://user:password@host:port/name."
        ) from error
    if not settings["ENGINE"].endswith("postgresql"):
        raise MoveProblem(
            "The target must be PostgreSQL. To another machine, `backup` and `restore` carry an embedded installation."
        )
    source = connections.settings[DEFAULT_DB_ALIAS]
    both = {DEFAULT_DB_ALIAS: source, ALIAS: settings}
    connections.settings[ALIAS] = connections.configure_settings(both)[ALIAS]
    try:
        connections[ALIAS] = connection = _made()
        try:
            _open(connection)
            _check(connection)
            yield Target(connection)
        finally:
            connection.close()
            del connections[ALIAS]
    finally:
        del connections.settings[ALIAS]


def _made() -> BaseDatabaseWrapper:
    try:
        return connections.create_connection(ALIAS)
    except ImproperlyConfigured as error:
        raise MoveProblem(
            "PostgreSQL needs the extra: pip install 'embeddings-server[postgres]'."
        ) from error


def _open(connection: BaseDatabaseWrapper) -> None:
    try:
        connection.ensure_connection()
    except NotSupportedError as error:
        raise MoveProblem(f"The target cannot be used: {error}") from error
    except DatabaseError as error:
        reason = " ".join(str(error).split())
        raise MoveProblem(f"The target cannot be reached: {reason}") from error


def _check(connection: BaseDatabaseWrapper) -> None:
    """Raises MoveProblem where the database would refuse what comes."""
    encoding = run(connection, "SHOW server_encoding")
    if encoding != "UTF8":
        raise MoveProblem(
            f"The target's encoding is {encoding}. Make it with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0."
        )
    may = "SELECT has_schema_privilege(current_schema(), 'CREATE')"
    if not run(connection, may):
        user = connection.settings_dict["USER"]
        raise MoveProblem(
            f"The role {user} may make no tables in the target. Make it the owner: ALTER DATABASE … OWNER TO {user}."
        )
    if not run(connection, LOCK):
        raise MoveProblem("Another move_to is at work on this target.")
