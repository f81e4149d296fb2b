"""One suite for every store: the bucket's arithmetic, done in one atomic step."""

import threading

import pytest

from embeddings.access.limiter.gcra import MAX_DEBT, UNBOUNDED, Moved
from tests.embeddings.access.limiter.conftest import SECOND


def take(store, key="someone", *, cost=SECOND, limit=10 * SECOND, ceiling=None):
    return store.move(
        key, cost=cost, limit=limit, ceiling=limit if ceiling is None else ceiling
    )


def test_full_bucket_lets_its_capacity_through_and_no_more(store):
    assert [take(store).allowed for _ in range(12)] == [True] * 10 + [False] * 2


def test_every_move_says_how_far_the_bucket_lags(store):
    assert take(store) == Moved(allowed=True, lag=SECOND)
    assert take(store) == Moved(allowed=True, lag=2 * SECOND)


def test_refusal_changes_nothing_and_says_the_lag(store):
    take(store, cost=10 * SECOND)
    assert take(store) == Moved(allowed=False, lag=10 * SECOND)
    assert take(store) == Moved(allowed=False, lag=10 * SECOND)


def test_who_waits_exactly_as_long_as_was_said_gets_through(store, clock):
    take(store, cost=10 * SECOND)
    clock.now += SECOND - 1
    assert not take(store).allowed
    clock.now += 1
    assert take(store).allowed
    assert not take(store).allowed


def test_bucket_refills_to_its_capacity_and_not_beyond(store, clock):
    take(store, cost=10 * SECOND)
    clock.turn(3600)
    assert [take(store).allowed for _ in range(11)] == [True] * 10 + [False]


def test_callers_have_buckets_of_their_own(store):
    take(store, "one", cost=10 * SECOND)
    assert not take(store, "one").allowed
    assert take(store, "another").allowed


def test_debt_is_taken_and_waited_for(store, clock):
    assert take(store, cost=90 * SECOND, limit=UNBOUNDED).lag == 90 * SECOND
    look = {"cost": 1, "limit": 60 * SECOND, "ceiling": MAX_DEBT}
    assert take(store, **look) == Moved(allowed=False, lag=90 * SECOND)
    clock.turn(30)
    assert not take(store, **look).allowed
    clock.now += 1
    assert take(store, **look).allowed


def test_first_move_over_the_limit_is_refused(store):
    assert take(store, cost=11 * SECOND) == Moved(allowed=False, lag=0)


def test_looking_costs_nothing(store):
    take(store, cost=9 * SECOND)
    assert take(store, cost=0) == Moved(allowed=True, lag=9 * SECOND)
    assert take(store).allowed


def test_clock_set_back_makes_nobody_wait_longer_than_a_full_bucket_takes(store, clock):
    take(store, cost=10 * SECOND)
    clock.turn(-3600)
    assert take(store).lag == 10 * SECOND
    clock.turn(10)
    assert take(store).allowed


def test_tighter_limit_holds_at_once_and_its_wait_is_the_true_one(store, clock):
    take(store, cost=10 * SECOND)
    assert take(store, limit=2 * SECOND) == Moved(allowed=False, lag=2 * SECOND)
    clock.turn(1)
    assert take(store, limit=2 * SECOND).allowed


def test_forgetting_full_buckets_keeps_the_others(store, clock):
    take(store, "rested", cost=SECOND)
    clock.turn(2)
    take(store, "tired", cost=10 * SECOND)
    store.forget_full()
    assert not take(store, "tired").allowed
    assert take(store, "rested").lag == SECOND


def test_threads_together_get_no_more_than_one_would(store):
    allowed = []

    def ask():
        for _ in range(20):
            if take(store).allowed:
                allowed.append(1)
        if hasattr(store, "_using"):
            store.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(allowed) == 10


@pytest.mark.parametrize("per_minute", [7, 60, 1_000_003])
def test_odd_rates_let_the_whole_burst_through(store, per_minute):
    cost = -(-60 * SECOND // per_minute)
    taken = [take(store, cost=cost, limit=10 * cost).allowed for _ in range(11)]
    assert taken == [True] * 10 + [False]
