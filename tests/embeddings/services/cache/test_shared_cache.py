"""Caches of several processes over one store, a real file or a real Redis."""

import numpy as np
import pytest

from embeddings.services.cache.cache import EmbeddingCache
from embeddings.services.cache.shared import LOOK_SECONDS, TELL_SECONDS, SharedRows
from providers.exceptions import ProviderMalformed
from tests.embeddings.services.cache.conftest import (
    MAX_SIZE,
    STORES,
    TTL_SECONDS,
    opened,
)
from tests.waiting import poll

pytestmark = pytest.mark.parametrize("address", STORES, indirect=True)


@pytest.fixture
def turn(monkeypatch, clock):
    """Return a function that lets seconds pass, for all caches and their stores."""
    monkeypatch.setattr(SharedRows, "clock", clock)
    monkeypatch.setattr(SharedRows, "timer", clock)
    monkeypatch.setattr(EmbeddingCache, "timer", clock)

    def pass_by(seconds):
        clock.now += seconds

    return pass_by


@pytest.fixture
def process(address, turn, clock):
    """Return a function that makes the cache of one more process."""
    caches = []

    def make(**options):
        options = {"max_size": MAX_SIZE, "ttl_seconds": TTL_SECONDS, **options}
        store = opened(address, clock=clock, **options)
        caches.append(EmbeddingCache(store=store, **options))
        return caches[-1]

    yield make
    for cache in caches:
        cache.close()


def ask(cache, *texts, compute=None):
    """Return what was computed: the texts' numbers among `texts`, each as its vector."""
    computed = []

    def computing(indices):
        computed.extend(indices)
        return np.array([[index, 1] for index in indices], dtype=np.float32)

    keys = [text.encode() for text in texts]
    cache.get_or_compute(keys, compute or computing, timeout_seconds=20)
    return [texts[index] for index in computed]


def stored(cache, *texts):
    """Have `cache` compute and store texts."""
    ask(cache, *texts)
    cache.flush()


def test_what_another_process_computed_is_found(process):
    stored(process(), "a", "b")
    assert ask(process(), "b", "c", "a") == ["c"]


def test_rows_are_written_without_being_asked_for(process, address, clock):
    cache = process()
    ask(cache, "a")
    poll(lambda: cache.stats().size, what="the row in the store")


def test_close_writes_what_is_on_its_way(process):
    cache = process()
    ask(cache, "a")
    cache.close()
    assert ask(process(), "a") == []


def test_hits_in_the_store_count_as_hits(process):
    stored(process(), "a")
    cache = process()
    ask(cache, "a", "b")
    stats = cache.stats()
    assert (stats.hits, stats.misses) == (1, 1)


def test_size_is_the_store_s(process):
    stored(process(), "a")
    cache = process()
    stored(cache, "b")
    assert cache.stats().size == 2


def test_row_found_in_the_store_is_kept_in_memory(process, store):
    stored(process(), "a")
    cache = process()
    ask(cache, "a")
    store.forget([b"a"], generation=store.generation())
    assert ask(cache, "a") == []


def test_row_found_in_the_store_lives_no_longer_for_that(process, turn):
    stored(process(), "a")
    turn(TTL_SECONDS - 10)
    cache = process()
    assert ask(cache, "a") == []
    turn(11)
    assert ask(cache, "a") == ["a"]


def test_rows_used_in_memory_stay_in_the_store(process, turn):
    limits = {"max_size": 2, "ttl_seconds": 10 * TELL_SECONDS}
    cache = process(**limits)
    for text in ("old", "older"):
        stored(cache, text)
        turn(1)
    turn(TELL_SECONDS)
    ask(cache, "old")
    stored(cache, "new")
    assert ask(process(**limits), "old", "new") == []


def test_clear_reaches_every_process(process, turn):
    one, another = process(), process()
    stored(one, "a")
    assert ask(another, "a") == []
    assert one.clear() == 1
    turn(LOOK_SECONDS)
    assert ask(another, "a") == ["a"]


def test_clear_keeps_nobody_from_sharing_what_is_computed_after_it(process, turn):
    one, another = process(), process()
    stored(another, "a")
    one.clear()
    turn(LOOK_SECONDS)
    stored(another, "b")
    assert ask(one, "b") == []


def test_clear_counts_what_is_on_its_way_and_what_others_stored(process):
    stored(process(), "a")
    cache = process()
    ask(cache, "b")
    assert cache.clear() == 2
    assert cache.stats().size == 0


def test_clear_wins_against_what_is_being_computed(process, turn):
    cache, another = process(), process()

    def compute(indices):
        another.clear()
        turn(LOOK_SECONDS)
        return np.ones((1, 2), np.float32)

    ask(cache, "a", compute=compute)
    cache.flush()
    assert ask(another, "a") == ["a"]
    cache.clear()
    ask(cache, "a", compute=lambda indices: cleared(cache))
    assert ask(cache, "a") == ["a"]


def cleared(cache):
    cache.clear()
    return np.ones((1, 2), np.float32)


def test_clear_wins_against_what_is_being_read(process, monkeypatch):
    stored(process(), "a")
    reader, read = process(), SharedRows.read

    def read_and_be_cleared(rows, keys, *, generation):
        found = read(rows, keys, generation=generation)
        reader.clear()
        return found

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(SharedRows, "read", read_and_be_cleared)
        assert ask(reader, "a") == []
    assert ask(reader, "a") == ["a"]


def test_rows_of_another_size_are_forgotten_in_the_store_too(process):
    stored(process(), "a")
    cache = process()
    with pytest.raises(ProviderMalformed):
        ask(cache, "a", "b", compute=lambda indices: np.ones((1, 3), np.float32))
    assert ask(process(), "a", "b") == ["a", "b"]
