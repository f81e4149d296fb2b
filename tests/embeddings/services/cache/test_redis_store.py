"""What can happen to a Redis."""

import socket
import time

import pytest
import redis

from embeddings.services.cache.redis_store import PREFIX, RedisStore
from embeddings.services.cache.row_store import Entry
from providers.state import StoreUnavailable
from tests.embeddings.services.cache.conftest import PATIENT_REDIS


@pytest.fixture
def client(redis_server):
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()  # also of what servers of other tests left
        yield client
        client.flushall()


@pytest.fixture
def store(redis_server):
    store = RedisStore(redis_server.url, max_size=1000, ttl_seconds=60, **PATIENT_REDIS)
    yield store
    store.close()


def write(store, *keys):
    entries = {key: Entry(time.time(), b"1234") for key in keys}
    store.write(entries, generation=store.generation())


def test_everything_but_the_generation_lapses(store, client):
    write(store, b"a", b"b")
    names = [name for name in client.keys(PREFIX + b"*") if b"generation" not in name]
    assert len(names) == 4
    assert all(0 < client.pttl(name) <= 60_000 for name in names)


def test_clear_leaves_nothing_but_the_generation(store, client):
    write(store, *(b"%d" % number for number in range(600)))
    store.clear()
    assert client.keys(PREFIX + b"*") == [PREFIX + b"generation"]


def test_redis_that_forgot_everything_begins_a_generation(store, client):
    over = store.generation()
    client.flushall()
    assert store.generation() != over


def test_absent_redis_is_unavailable(tmp_path):
    store = RedisStore(f"unix://{tmp_path / 'nobody'}", max_size=3, ttl_seconds=60)
    with pytest.raises(StoreUnavailable):
        store.generation()


def test_redis_that_does_not_answer_is_unavailable(tmp_path):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        store = RedisStore(f"unix://{tmp_path / 'silent'}", max_size=3, ttl_seconds=60)
        with pytest.raises(StoreUnavailable):
            store.read([b"a"], generation=1)
        store.close()


def test_redis_that_takes_long_for_a_request_s_rows_is_unavailable(store, monkeypatch):
    generation = store.generation()
    ticks = iter([0.0, 0.1, PATIENT_REDIS["read_seconds"] + 0.1])
    monkeypatch.setattr(RedisStore, "timer", lambda _: next(ticks))
    with pytest.raises(StoreUnavailable):
        store.read([b"%d" % number for number in range(300)], generation=generation)


def test_redis_that_is_full_is_unavailable_for_writes_and_still_read(store, client):
    write(store, b"a")
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable):
            write(store, b"b")
        assert list(store.read([b"a"], generation=store.generation())) == [b"a"]
    finally:
        client.config_set("maxmemory", 0)
