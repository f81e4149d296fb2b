"""The limiter above its store: what callers are answered, and what happens while the store is away."""

import logging

import pytest

from embeddings.access.limiter.gcra import Moved, Rate
from embeddings.access.limiter.limiter import CLEANUP_SECONDS, REST_SECONDS, Limiter
from providers.state import StoreUnavailable
from tests.embeddings.access.limiter.conftest import SECOND

RATE = Rate(per_minute=60, burst=10)
TOKENS = Rate(per_minute=600, burst=600)


class BrokenStore:
    """Fails until it is fixed."""

    def __init__(self):
        self.asked = self.cleaned = 0
        self.broken = True

    def move(self, key, *, cost, limit, ceiling):
        self.asked += 1
        if self.broken:
            raise StoreUnavailable("away")
        return Moved(allowed=False, lag=limit)

    def forget_full(self):
        self.cleaned += 1

    def close(self):
        """Nothing is open."""


@pytest.fixture
def limiter(sqlite_store):
    return Limiter(sqlite_store)


def test_standing_counts_down(limiter):
    first = limiter.take("a", RATE)
    assert (first.allowed, first.limit, first.remaining) == (True, 10, 9)
    assert first.reset_after == SECOND
    for _ in range(8):
        limiter.take("a", RATE)
    last = limiter.take("a", RATE)
    assert (last.allowed, last.remaining, last.retry_after) == (True, 0, SECOND)
    refused = limiter.take("a", RATE)
    assert (refused.allowed, refused.remaining) == (False, 0)


def test_part_of_a_unit_is_none_that_remains(limiter, clock):
    for _ in range(10):
        limiter.take("a", RATE)
    clock.now += 2 * SECOND - 1
    assert limiter.look("a", RATE).remaining == 1


@pytest.mark.parametrize("per_minute", [1, 7, 60, 999, 60_000, 10_000_000])
def test_wait_that_is_said_is_the_shortest_that_gets_through(
    limiter, clock, per_minute
):
    rate = Rate(per_minute=per_minute, burst=3)
    *allowed, refused = [limiter.take("a", rate) for _ in range(4)]
    assert [standing.allowed for standing in allowed] == [True] * 3
    assert not refused.allowed
    clock.now += refused.retry_after - 1
    assert not limiter.take("a", rate).allowed
    clock.now += 1
    assert limiter.take("a", rate).allowed


@pytest.mark.parametrize("per_minute", [7, 61, 999])
def test_rate_is_not_exceeded_where_it_does_not_divide_a_minute(
    limiter, clock, per_minute
):
    rate, began = Rate(per_minute=per_minute, burst=1), clock.now
    for _ in range(per_minute):
        standing = limiter.take("a", rate)
        assert standing.allowed
        clock.now += standing.retry_after
    assert clock.now - began >= 60 * SECOND


def test_looking_takes_nothing(limiter):
    for _ in range(20):
        assert limiter.look("a", RATE).allowed
    for _ in range(10):
        limiter.take("a", RATE)
    assert not limiter.look("a", RATE).allowed


def test_tokens_are_charged_afterwards_and_a_debt_must_be_waited_for(limiter, clock):
    assert limiter.any_left("a", TOKENS).allowed
    assert limiter.charge("a", TOKENS, 900).remaining == 0
    refused = limiter.any_left("a", TOKENS)
    assert not refused.allowed
    assert refused.retry_after == pytest.approx(30 * SECOND, abs=10)
    clock.now += refused.retry_after
    assert limiter.any_left("a", TOKENS).allowed


def test_no_debt_is_waited_for_longer_than_a_day(limiter, clock):
    rate = Rate(per_minute=1, burst=1)
    limiter.charge("a", rate, 10_000_000)
    clock.turn(24 * 3600)
    assert limiter.any_left("a", rate).allowed


def test_store_that_is_away_lets_callers_in_and_is_logged(caplog):
    with caplog.at_level(logging.WARNING):
        assert Limiter(BrokenStore()).take("a", RATE).allowed
    assert [record.msg["event"] for record in caplog.records] == ["limiter_unavailable"]


def test_store_that_failed_is_left_alone_for_a_moment(monkeypatch):
    store, now = BrokenStore(), [100.0]
    monkeypatch.setattr(Limiter, "timer", lambda _: now[0])
    limiter = Limiter(store)
    for _ in range(5):
        assert limiter.take("a", RATE).allowed
    assert store.asked == 1
    store.broken = False
    now[0] += REST_SECONDS
    assert not limiter.take("a", RATE).allowed


def test_full_buckets_are_dropped_now_and_then(monkeypatch):
    store, now = BrokenStore(), [100.0]
    store.broken = False
    monkeypatch.setattr(Limiter, "timer", lambda _: now[0])
    limiter = Limiter(store)
    for _ in range(5):
        limiter.take("a", RATE)
    assert store.cleaned == 0
    now[0] += CLEANUP_SECONDS
    for _ in range(5):
        limiter.take("a", RATE)
    assert store.cleaned == 1
