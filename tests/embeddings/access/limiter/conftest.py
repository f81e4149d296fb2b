"""The three stores, each with a clock that tests turn."""

from importlib import import_module

import pytest
import redis
from django.db import connections

from embeddings.access.limiter.postgres_buckets import PostgresBuckets
from embeddings.access.limiter.redis_buckets import RedisBuckets
from embeddings.access.limiter.sqlite_buckets import SqliteBuckets

SECOND = 1_000_000
# It makes the table that the store expects.
MIGRATION = import_module("embeddings.migrations.0003_limiter_buckets")


class Clock:
    """Microseconds; stands still until it is turned."""

    def __init__(self):
        self.now = 1_800_000_000 * SECOND

    def __call__(self):
        return self.now

    def turn(self, seconds):
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sqlite_store(tmp_path, clock):
    store = SqliteBuckets(tmp_path / "limiter.sqlite3", clock=clock)
    yield store
    store.close()


@pytest.fixture
def redis_store(redis_server, clock):
    store = RedisBuckets(redis_server.url, clock=clock)
    yield store
    store.close()
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()


@pytest.fixture
def postgres_alias(postgres_server, django_db_blocker):
    """A Django connection to the real PostgreSQL, beside the tests' own database."""
    with django_db_blocker.unblock():
        own = connections["default"].settings_dict
        connections.settings["buckets"] = {
            **own,
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "postgres",
            "HOST": postgres_server.folder,
            "OPTIONS": {},
        }
        with connections["buckets"].schema_editor() as editor:
            MIGRATION.create(None, editor)
        yield "buckets"
        with connections["buckets"].schema_editor() as editor:
            MIGRATION.drop(None, editor)
        connections["buckets"].close()
        del connections["buckets"], connections.settings["buckets"]


@pytest.fixture
def postgres_store(postgres_alias, clock):
    return PostgresBuckets(postgres_alias, clock=clock)


STORES = (
    "sqlite",
    pytest.param("redis", marks=pytest.mark.e2e),
    pytest.param("postgres", marks=pytest.mark.e2e),
)


@pytest.fixture(params=STORES)
def store(request):
    return request.getfixturevalue(f"{request.param}_store")
