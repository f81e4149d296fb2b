"""A store that is away: requests notice nothing, the operator does."""

import logging
from typing import Any

import numpy as np
import pytest

from embeddings.services import request_metrics
from embeddings.services.cache import writer as writer_module
from embeddings.services.cache.cache import MAX_MEMORY_ROWS, EmbeddingCache
from embeddings.services.cache.redis_store import RedisStore
from embeddings.services.cache.row_store import Entry
from embeddings.services.cache.shared import (
    LOG_SECONDS,
    LOOK_SECONDS,
    REST_SECONDS,
    SharedRows,
)
from embeddings.services.cache.sqlite_store import SqliteStore
from embeddings.services.cache.writer import BackgroundWriter
from providers.state import StoreUnavailable
from tests.embeddings.services.cache.conftest import PATIENT_FILE, Clock


@pytest.fixture
def timer(monkeypatch):
    timer = Clock(1000.0)
    monkeypatch.setattr(SharedRows, "timer", timer)
    return timer


@pytest.fixture
def folder(tmp_path):
    """A file where the store's folder should be: whoever removes it fixes the store."""
    folder = tmp_path / "folder"
    folder.touch()
    return folder


@pytest.fixture
def store(folder):
    store = SqliteStore(
        folder / "cache.sqlite3", max_size=10, ttl_seconds=60, **PATIENT_FILE
    )
    yield store
    store.close()


@pytest.fixture
def cache(store, timer):
    cache = EmbeddingCache(max_size=10, ttl_seconds=60, store=store)
    yield cache
    cache.close()


def ask(cache, key=b"a"):
    """Whether `key` was computed."""
    computed = []

    def compute(indices):
        computed.extend(indices)
        return np.ones((1, 2), np.float32)

    cache.get_or_compute([key], compute, timeout_seconds=20)
    return bool(computed)


def failures():
    """Return how often stores failed."""
    (family,) = request_metrics.cache_store_failures.collect()
    return sum(s.value for s in family.samples if s.name.endswith("_total"))


def test_memory_goes_on_alone_while_the_store_is_away(cache):
    assert ask(cache)
    assert not ask(cache)
    cache.flush()
    assert cache.stats().size == 1


def test_store_is_used_as_soon_as_it_is_back(cache, store, folder, timer):
    ask(cache)
    folder.unlink()
    timer.now += REST_SECONDS
    assert ask(cache, b"b")
    cache.flush()
    assert store.size(generation=store.generation()) == 1


def test_store_that_failed_is_asked_once_a_while(cache, timer):
    before = failures()
    for number in range(20):
        ask(cache, b"%d" % number)
        timer.now += REST_SECONDS / 10
    assert failures() - before == 2


def test_one_request_tries_whether_the_store_is_back_and_others_go_without(timer):
    class Store:
        name, asked = "store", 0

        def read(self, keys, *, generation):
            self.asked += 1
            if self.asked == 2:  # while this request waits for the store
                assert shared.read([b"b"], generation=1) == {}
            raise StoreUnavailable("away")

    store: Any = Store()  # nothing but `read` is asked of it
    shared = SharedRows(store, newly_used=list)
    shared.read([b"a"], generation=1)
    timer.now += REST_SECONDS
    shared.read([b"a"], generation=1)
    assert store.asked == 2


def test_failures_are_logged_once_in_a_while(cache, timer, caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(12):
            cache.stats()
            timer.now += LOG_SECONDS / 10
    assert [record.msg["event"] for record in caplog.records] == [
        "cache_store_unavailable"
    ] * 2


def test_return_of_the_store_is_logged(cache, folder, timer, caplog):
    ask(cache)
    folder.unlink()
    timer.now += REST_SECONDS
    with caplog.at_level(logging.INFO):
        ask(cache)
    assert caplog.records[-1].msg["event"] == "cache_store_available"


def test_disk_that_takes_no_writes_is_still_read(tmp_path, timer):
    store = SqliteStore(
        tmp_path / "cache.sqlite3", max_size=10, ttl_seconds=60, write_busy_seconds=0.01
    )
    shared = SharedRows(store, newly_used=list)
    generation = shared.looked_up_generation()
    assert generation is not None
    other = SqliteStore(tmp_path / "cache.sqlite3", max_size=10, ttl_seconds=60)
    before = failures()
    with other._for_writes.writing():
        shared.write({b"a": b"1234"}, generation=generation)
        shared.flush()
        assert shared.read([b"a"], generation=generation) == {}
        timer.now += LOOK_SECONDS
        assert shared.looked_up_generation() == generation
    assert failures() - before == 1
    other.close()
    shared.close()


def test_clear_that_could_not_be_done_is_done_later(cache, store, folder, timer):
    folder.unlink()
    ask(cache)
    cache.flush()
    store.close()
    away = folder.rename(folder.with_name("away"))
    folder.touch()
    timer.now += LOOK_SECONDS
    assert cache.clear() == 1
    folder.unlink()
    away.rename(folder)
    timer.now += REST_SECONDS
    assert ask(cache)


def test_absent_redis_fails_no_request(tmp_path, timer):
    store = RedisStore(f"unix://{tmp_path / 'nobody'}", max_size=3, ttl_seconds=60)
    cache = EmbeddingCache(max_size=3, ttl_seconds=60, store=store)
    assert ask(cache)
    assert not ask(cache)
    assert cache.clear() == 1
    cache.close()


def test_rows_that_would_fill_the_memory_are_not_written(monkeypatch):
    monkeypatch.setattr(writer_module, "MAX_PENDING_BYTES", 100)
    monkeypatch.setattr(writer_module, "FLUSH_SECONDS", 60)
    written = []
    writer = BackgroundWriter(lambda entries, generation: written.extend(entries))
    for key in (b"a", b"b", b"c"):
        writer.put({key: Entry(0.0, bytes(40))}, generation=1)
    writer.close()
    assert written == [b"a", b"b"]


def test_rows_of_a_generation_that_is_over_are_not_written(monkeypatch):
    monkeypatch.setattr(writer_module, "FLUSH_SECONDS", 60)
    written = []
    writer = BackgroundWriter(
        lambda entries, generation: written.append((generation, *entries))
    )
    writer.put({b"a": Entry(0.0, bytes(4))}, generation=1)
    writer.put({b"b": Entry(0.0, bytes(4))}, generation=2)
    writer.close()
    assert written == [(2, b"b")]


def test_memory_of_a_process_is_bounded_however_much_the_store_holds(store):
    cache = EmbeddingCache(max_size=10**7, ttl_seconds=60, store=store)
    cache.get_or_compute(
        [b"%d" % number for number in range(MAX_MEMORY_ROWS + 1)],
        lambda indices: np.ones((len(indices), 1), np.float32),
        timeout_seconds=20,
    )
    assert cache.stats().size == MAX_MEMORY_ROWS
    cache.close()
