"""What the tests keep their state in: SQLite and files or, with TEST_DATABASE=postgres, one PostgreSQL and one Redis.

There each process of the tests, and each server that they start, has a database of its own: a copy of one that was
migrated once. The run's first process starts both servers; the others find them by the environment.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.servers import PostgresServer, RedisServer

POSTGRES_URL, REDIS_URL = "TEST_POSTGRES_URL", "TEST_REDIS_URL"
TEMPLATE = "migrated"
# Redis databases of one process of the tests; the first is that process's own.
CACHES_A_WORKER = 1000
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Nothing has to outlive the run, and each thread of each server has a connection.
QUICK = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
ROOMY = {"max_connections": "1000", "max_wal_size": "4GB"}

_started: list[PostgresServer | RedisServer] = []
_stores: dict[Path, Mapping[str, str]] = {}
_numbers = itertools.count(1)


def on_postgres() -> bool:
    """Whether this run's state is in PostgreSQL and Redis."""
    choice = os.environ.get("TEST_DATABASE") or "sqlite"
    if choice not in ("sqlite", "postgres"):
        raise ValueError(f"TEST_DATABASE is sqlite or postgres, not {choice!r}.")
    return choice == "postgres"


def start() -> Mapping[str, str]:
    """Start the servers, in the run's first process; return what this process's settings read of them."""
    if not on_postgres():
        return {}
    if POSTGRES_URL not in os.environ:
        postgres = PostgresServer(**QUICK, **ROOMY)
        redis = RedisServer(databases=9 * CACHES_A_WORKER)
        _started[:] = [postgres, redis]
        os.environ |= {POSTGRES_URL: postgres.url, REDIS_URL: redis.url}
    return {"DATABASE_URL": os.environ[POSTGRES_URL], "CACHE_URL": cache_url(0)}


def stop() -> None:
    """Stop them, where they were started."""
    for server in _started:
        server.stop()
    _started.clear()


def cache_url(number: int) -> str:
    """Return the address of one of this process's Redis databases."""
    return f"{os.environ[REDIS_URL]}?db={CACHES_A_WORKER * WORKER + number}"


def database_url(name: str) -> str:
    return os.environ[POSTGRES_URL].replace("/postgres?", f"/{name}?")


def stores_of(data_dir: Path) -> Mapping[str, str]:
    """Return the environment by which a server of this folder finds its database and cache."""
    return _stores.get(data_dir, {})


def open_stores(data_dir: Path, *, migrated: bool) -> None:
    """Give the server of this folder its stores, unless it has them: a database, empty or `migrated`, and a cache."""
    if not on_postgres() or data_dir in _stores:
        return
    number = next(_numbers)
    name = f"server_{WORKER}_{number}"
    source = f' TEMPLATE "{TEMPLATE}"' if migrated else ""
    rows_of(os.environ[POSTGRES_URL], f'CREATE DATABASE "{name}"{source}')
    _stores[data_dir] = {
        "DATABASE_URL": database_url(name),
        "CACHE_URL": cache_url(number),
    }


def make_template(migrate: Callable[[str], None]) -> str:
    """Have `migrate` make the database that all others are copies of, once in a run, and return its name."""
    import psycopg

    with psycopg.connect(os.environ[POSTGRES_URL], autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(1)")
        names = {
            name for (name,) in connection.execute("SELECT datname FROM pg_database")
        }
        if TEMPLATE not in names:
            connection.execute('CREATE DATABASE "migrating"')
            migrate("migrating")
            connection.execute(f'ALTER DATABASE "migrating" RENAME TO "{TEMPLATE}"')
    return TEMPLATE


def rows_of(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement in a PostgreSQL database; return what it answers."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def locked(url: str, table: str) -> Iterator[None]:
    """Let nobody else write to a table."""
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute(f'LOCK TABLE "{table}" IN EXCLUSIVE MODE')
        yield
        connection.rollback()


def empty_cache() -> None:
    """Forget what this process's tests have put into Redis."""
    import redis

    with redis.Redis.from_url(cache_url(0)) as client:
        client.flushdb()
