import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from embeddings.services.cache.cache import EmbeddingCache
from providers.exceptions import (
    Abandoned,
    Overloaded,
    ProviderMalformed,
    ProviderTimeout,
    ProviderUnavailable,
)
from tests.collector import collector_off, failing, together
from tests.waiting import poll


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cache(clock):
    cache = EmbeddingCache(max_size=3, ttl_seconds=60)
    cache.timer = clock
    return cache


def vectors(*values):
    return np.array([[value] for value in values], dtype=np.float32)


class Computing:
    """A compute function that answers value i for index i, and records its calls."""

    def __init__(self, *values):
        self.values, self.calls = values, []

    def __call__(self, indices):
        self.calls.append(indices)
        return vectors(*(self.values[index] for index in indices))


def ask(cache, keys, compute, timeout_seconds=20):
    return cache.get_or_compute(keys, compute, timeout_seconds=timeout_seconds)


def never(indices):
    raise AssertionError(f"{indices} should have been in the cache")


def test_hits_are_not_computed_again(cache):
    ask(cache, [b"a", b"b"], Computing(1, 2))
    np.testing.assert_array_equal(ask(cache, [b"b", b"a"], never), vectors(2, 1))


def test_only_misses_are_computed(cache):
    ask(cache, [b"a"], Computing(1))
    compute = Computing(1, 2, 3)
    np.testing.assert_array_equal(
        ask(cache, [b"a", b"b", b"c"], compute), vectors(1, 2, 3)
    )
    assert compute.calls == [[1, 2]]


def test_least_recently_used_goes_first(cache):
    ask(cache, [b"a", b"b", b"c"], Computing(1, 2, 3))
    ask(cache, [b"a"], never)
    ask(cache, [b"d"], Computing(4))
    ask(cache, [b"a", b"c", b"d"], never)
    compute = Computing(2)
    ask(cache, [b"b"], compute)
    assert compute.calls == [[0]]


def test_rows_expire(cache, clock):
    ask(cache, [b"a"], Computing(1))
    clock.now = 60
    ask(cache, [b"a"], never)
    beside_a_miss = Computing(1, 2)
    ask(cache, [b"a", b"b"], beside_a_miss)
    assert beside_a_miss.calls == [[1]]
    clock.now = 60.1
    compute = Computing(9)
    ask(cache, [b"a"], compute)
    assert compute.calls == [[0]]


def test_nothing_is_kept_of_a_failure(cache):
    def fail(indices):
        raise ProviderUnavailable("down.")

    with pytest.raises(ProviderUnavailable):
        ask(cache, [b"a"], fail)
    np.testing.assert_array_equal(ask(cache, [b"a"], Computing(1)), vectors(1))


def test_a_failure_holds_nothing_once_it_is_handled(cache):
    with collector_off() as held:

        def fail(indices):
            model = held()
            raise ProviderUnavailable(f"{type(model).__name__} is down.")

        failing(lambda: ask(cache, [b"a"], fail), ProviderUnavailable)
        assert held.alive() == 0


def test_who_waited_for_a_failure_holds_nothing_once_it_is_handled(cache):
    entered = threading.Event()
    with collector_off() as held:

        def fail(indices):
            model = held()
            entered.set()
            while cache.stats().hits == 0:
                pass
            raise ProviderUnavailable(f"{type(model).__name__} is down.")

        def second():
            texts = held()
            assert entered.wait(20)
            return ask(cache, [b"a"], never), texts

        together(
            lambda: failing(lambda: ask(cache, [b"a"], fail), ProviderUnavailable),
            lambda: failing(second, ProviderUnavailable),
        )
        assert held.alive() == 0


def test_who_waited_gets_the_failure_with_all_that_it_says(cache):
    entered, outcomes = threading.Event(), []

    def fail(indices):
        entered.set()
        while cache.stats().hits == 0:
            pass
        raise Overloaded("busy.", retry_after_seconds=7)

    def second():
        assert entered.wait(20)
        try:
            ask(cache, [b"a"], never)
        except Overloaded as error:
            outcomes.append((error.message, error.retry_after_seconds))

    together(
        lambda: failing(lambda: ask(cache, [b"a"], fail), Overloaded),
        second,
    )
    assert outcomes == [("busy.", 7)]


def test_answer_may_be_changed_without_changing_the_cache(cache):
    answer = ask(cache, [b"a"], Computing(1))
    answer[0, 0] = 7
    np.testing.assert_array_equal(ask(cache, [b"a"], never), vectors(1))


def test_a_size_of_zero_keeps_nothing():
    cache = EmbeddingCache(max_size=0, ttl_seconds=60)
    compute = Computing(1)
    ask(cache, [b"a"], compute)
    ask(cache, [b"a"], compute)
    assert len(compute.calls) == 2


def test_text_asked_for_twice_at_once_is_computed_once(cache):
    entered, gate = threading.Event(), threading.Event()

    def slow(indices):
        entered.set()
        assert gate.wait(20)
        return vectors(5)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, cache, [b"a"], slow)
        assert entered.wait(20)
        second = pool.submit(ask, cache, [b"a"], never)
        gate.set()
        np.testing.assert_array_equal(first.result(20), vectors(5))
        np.testing.assert_array_equal(second.result(20), vectors(5))


def test_own_texts_are_computed_before_those_of_another_request_are_awaited(cache):
    first_is_under_way = threading.Event()
    both_compute = threading.Barrier(2)

    def compute(indices):
        first_is_under_way.set()
        both_compute.wait(20)  # breaks if the second request waits for the first
        return vectors(*(index + 1 for index in indices))

    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, cache, [b"a", b"b"], compute)
        assert first_is_under_way.wait(20)
        second = pool.submit(ask, cache, [b"c", b"a", b"b"], compute)
        np.testing.assert_array_equal(first.result(30), vectors(1, 2))
        np.testing.assert_array_equal(second.result(30), vectors(1, 1, 2))


def test_failure_reaches_everyone_who_waits(cache):
    entered, gate = threading.Event(), threading.Event()

    def fail(indices):
        entered.set()
        assert gate.wait(20)
        raise ProviderUnavailable("down.")

    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, cache, [b"a"], fail)
        assert entered.wait(20)
        second = pool.submit(ask, cache, [b"a"], never)
        poll(lambda: cache.stats().hits, what="the second request waits")
        gate.set()
        for future in (first, second):
            with pytest.raises(ProviderUnavailable):
                future.result(20)


def test_texts_whose_first_client_left_are_computed_for_the_next_that_waits(cache):
    entered, gate = threading.Event(), threading.Event()

    def leave(indices):
        entered.set()
        assert gate.wait(20)
        raise Abandoned("gone.")

    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, cache, [b"a"], leave)
        assert entered.wait(20)
        compute = Computing(5, 6)
        second = pool.submit(ask, cache, [b"a", b"b"], compute)
        poll(lambda: cache.stats().hits, what="the second request waits")
        gate.set()
        with pytest.raises(Abandoned):
            first.result(20)
        np.testing.assert_array_equal(second.result(20), vectors(5, 6))
    assert compute.calls == [[1], [0]]


def test_who_waits_for_another_request_waits_no_longer_than_its_own_time(cache):
    entered, gate = threading.Event(), threading.Event()

    def slow(indices):
        entered.set()
        assert gate.wait(20)
        return vectors(5)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, cache, [b"a"], slow)
        assert entered.wait(20)
        with pytest.raises(ProviderTimeout):
            ask(cache, [b"a"], never, timeout_seconds=0)
        gate.set()
        np.testing.assert_array_equal(first.result(20), vectors(5))


def test_rows_of_different_sizes_are_forgotten_not_mixed(cache):
    ask(cache, [b"a"], Computing(1))

    def wider(indices):
        return np.ones((1, 2), np.float32)

    with pytest.raises(ProviderMalformed):
        ask(cache, [b"a", b"b"], wider)
    assert ask(cache, [b"a", b"b"], lambda i: np.ones((2, 2))).shape == (2, 2)


def test_stats_count_texts(cache):
    ask(cache, [b"a", b"b", b"a"], Computing(1, 2, 1))
    ask(cache, [b"a"], never)
    stats = cache.stats()
    assert (stats.size, stats.hits, stats.misses, stats.hit_rate) == (2, 2, 2, 0.5)
    for size in (2, 1):
        assert cache.clear() == size
        assert cache.stats().size == 0
        ask(cache, [b"a"], Computing(1))
