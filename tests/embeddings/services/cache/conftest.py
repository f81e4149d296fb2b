"""Both stores, each for three rows that live a minute, with a clock that tests turn."""

from typing import Any

import pytest
import redis

from embeddings.services.cache.redis_store import RedisStore
from embeddings.services.cache.sqlite_store import SqliteStore

STORES = ["sqlite", pytest.param("redis", marks=pytest.mark.e2e)]
MAX_SIZE, TTL_SECONDS = 3, 60
# A busy machine, or processes that do nothing but write, can keep one waiting for longer than a request would.
PATIENT_FILE: dict[str, Any] = {"read_busy_seconds": 60, "write_busy_seconds": 60}
PATIENT_REDIS: dict[str, Any] = {"timeout_seconds": 60, "read_seconds": 60}


class Clock:
    """Seconds; stands still until it is turned."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock(1_800_000_000.0)


@pytest.fixture
def address(request, tmp_path):
    """Where the store of this test is: a new file, or a Redis that holds nothing."""
    if request.param == "sqlite":
        yield tmp_path / "cache.sqlite3"
        return
    server = request.getfixturevalue("redis_server")
    with redis.Redis.from_url(server.url) as client:
        client.flushall()  # also of what servers of other tests left
        yield server.url
        client.flushall()


def opened(address, **options):
    """Open the store at `address`, as another process would."""
    options = {"max_size": MAX_SIZE, "ttl_seconds": TTL_SECONDS, **options}
    if isinstance(address, str):
        return RedisStore(address, **PATIENT_REDIS, **options)
    return SqliteStore(address, **PATIENT_FILE, **options)


@pytest.fixture
def store(address, clock):
    store = opened(address, clock=clock)
    yield store
    store.close()
