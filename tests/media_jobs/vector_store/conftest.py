"""Every store on a real database of its own kind, migrated once a run and empty before each test."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from django.core.management import call_command
from django.db import connections

from media_jobs.models import MediaItem, VectorSpace
from media_jobs.vector_store.base import Chunk, Space
from media_jobs.vector_store.orm import OrmVectorStore
from media_jobs.vector_store.pgvector import PgVectorStore

SPACE = Space(provider="local", model="small", vector_space="small", dimensions=4)


def unit(*values):
    """Return a vector of unit length."""
    vector = np.array(values, dtype=np.float32)
    return vector / np.linalg.norm(vector)


def chunks(*vectors, text="text"):
    """Make a chunk of each vector; its text says which it is."""
    return [
        Chunk(
            index=index,
            text=f"{text} {index}",
            start=index,
            end=index + 1,
            vector=vector,
        )
        for index, vector in enumerate(vectors)
    ]


def elsewhere(work):
    """Run `work` in another thread, which has a connection of its own, and return what it returns."""

    def run():
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(60)


def at_once(*works):
    """Run all in threads, each with a connection of its own."""
    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(elsewhere, work) for work in works]:
            done.result(60)


@pytest.fixture(scope="session")
def new_database(django_db_blocker):
    """Return a function that makes a Django connection beside the tests' own database, and migrates there."""
    made = []

    def connect(alias, **settings):
        own = connections["default"].settings_dict
        connections.settings[alias] = {**own, "NAME": "", "OPTIONS": {}, **settings}
        with django_db_blocker.unblock():
            call_command("migrate", "media_jobs", database=alias, verbosity=0)
        made.append(alias)
        return alias

    yield connect
    with django_db_blocker.unblock():
        for alias in made:
            connections[alias].close()
            del connections[alias], connections.settings[alias]


@pytest.fixture(scope="session")
def sqlite_alias(new_database, tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "db.sqlite3"
    options = connections["default"].settings_dict["OPTIONS"]
    return new_database("vectors_sqlite", NAME=str(path), OPTIONS=options)


@pytest.fixture(scope="session")
def postgres_alias(new_database, postgres_server):
    postgres_server.create_database("vectors")
    return new_database(
        "vectors_postgres",
        ENGINE="django.db.backends.postgresql",
        NAME="vectors",
        USER="postgres",
        HOST=postgres_server.folder,
    )


@pytest.fixture
def emptied(django_db_blocker):
    """Return a context in which a database is used; it leaves the database empty."""

    @contextmanager
    def using(alias):
        with django_db_blocker.unblock():
            yield
            MediaItem.objects.using(alias).all().delete()
            VectorSpace.objects.using(alias).all().delete()

    return using


@pytest.fixture
def sqlite_store(sqlite_alias, emptied):
    with emptied(sqlite_alias):
        yield OrmVectorStore(sqlite_alias)


@pytest.fixture
def embedded_in_postgres_store(postgres_alias, emptied):
    """What serves where PostgreSQL lacks the extension."""
    with emptied(postgres_alias):
        yield OrmVectorStore(postgres_alias)


@pytest.fixture
def pgvector_store(postgres_alias, emptied):
    with emptied(postgres_alias):
        yield PgVectorStore(postgres_alias)


STORES = (
    "sqlite",
    pytest.param("embedded_in_postgres", marks=pytest.mark.e2e),
    pytest.param("pgvector", marks=pytest.mark.e2e),
)


@pytest.fixture(params=STORES)
def store(request):
    """Each store in turn."""
    return request.getfixturevalue(f"{request.param}_store")


@pytest.fixture
def new_item(store):
    """Return a function that makes a media item and returns its id."""

    def make():
        return MediaItem.objects.using(store.using).create(title="A title").pk

    return make
