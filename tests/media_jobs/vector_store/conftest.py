"""Every store on a real database of its own kind, migrated once a run and empty before each test."""

import threading
from contextlib import contextmanager

import numpy as np
import pytest
from django.core.management import call_command
from django.db import connections

from media_jobs.models import MediaItem, VectorSpace
from media_jobs.vector_store.base import Chunk, Space
from media_jobs.vector_store.orm import OrmVectorStore

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
    result = []

    def run():
        try:
            result.append(work())
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return result[0]


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
def postgres_store(postgres_alias, emptied):
    with emptied(postgres_alias):
        yield OrmVectorStore(postgres_alias)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request):
    """Each store in turn."""
    return request.getfixturevalue(f"{request.param}_store")


@pytest.fixture
def new_item(store):
    """Return a function that makes a media item and returns its id."""

    def make():
        return MediaItem.objects.using(store.using).create(title="A title").pk

    return make
