"""Guessing passwords, counted in the database."""

from datetime import UTC, datetime, timedelta

import pytest

from embeddings.access import login_guard
from embeddings.access.login_guard import (
    BY_ADDRESS,
    LockedOut,
    guarded_login,
)
from embeddings.models import LoginFailures


class Wrong(Exception):
    pass


@pytest.fixture
def clock(monkeypatch, db):
    class Clock:
        moment = datetime(2026, 1, 1, tzinfo=UTC)

        def pass_by(self, **time):
            self.moment += timedelta(**time)

    clock = Clock()
    monkeypatch.setattr(login_guard, "now", lambda: clock.moment)
    return clock


def fail(username="ada", address="192.0.2.1"):
    """Try a wrong password; return the seconds to wait if it was not even looked at."""
    try:
        with guarded_login(username=username, address=address):
            raise Wrong
    except LockedOut as locked:
        return locked.retry_after_seconds
    except Wrong:
        return 0


def succeed(username="ada", address="192.0.2.1"):
    with guarded_login(username=username, address=address):
        pass


def test_five_guesses_are_free_and_then_the_name_is_locked_from_there(clock):
    assert [fail() for _ in range(6)] == [0, 0, 0, 0, 0, 30]
    with pytest.raises(LockedOut):
        succeed()


def test_lock_doubles_with_each_further_failure_up_to_an_hour(clock):
    locks = []
    for _ in range(5):
        fail()
    for _ in range(9):
        wait = fail()
        locks.append(wait)
        clock.pass_by(seconds=wait)
        assert fail() == 0
    assert locks[:5] == [30, 60, 120, 240, 480]
    assert max(locks) == 3600


def test_waiting_as_long_as_the_answer_said_is_enough(clock):
    for _ in range(5):
        fail()
    clock.pass_by(seconds=fail() - 1)
    assert fail() == 1
    clock.pass_by(seconds=1)
    succeed()


def test_clock_set_back_an_hour_makes_no_lock_an_hour_longer(clock):
    for _ in range(5):
        fail()
    assert fail() > 0
    clock.pass_by(hours=-1)
    assert fail() == 0  # looked at, and the next lock begins
    assert 0 < fail() <= 60


def test_attempts_while_locked_do_not_prolong_the_lock(clock):
    for _ in range(5):
        fail()
    assert [fail() for _ in range(10)] == [30] * 10


def test_right_password_clears_the_name(clock):
    for _ in range(4):
        fail()
    succeed()
    assert [fail() for _ in range(6)] == [0, 0, 0, 0, 0, 30]


def test_name_is_not_locked_from_elsewhere(clock):
    for _ in range(6):
        fail(address="192.0.2.1")
    assert [fail(address="192.0.2.2") for _ in range(4)] == [0] * 4
    succeed(address="192.0.2.2")
    assert fail(address="192.0.2.1") == 30


def test_name_counts_as_one_however_it_is_spelt(clock):
    waits = [fail(name) for name in ("ada", "ADA", "Ada", "aDa", "\uff41da", "ada")]
    assert waits == [0, 0, 0, 0, 0, 30]


def test_address_that_tries_many_names_is_locked(clock):
    waits = [fail(username=f"user{n}") for n in range(31)]
    assert waits == [0] * 30 + [30]


def test_own_account_does_not_buy_more_guesses_at_others(clock):
    guesses = 0
    for number in range(100):
        try:
            succeed("mallory")
        except LockedOut:
            break
        guesses += fail(f"user{number}") == 0
    assert guesses <= BY_ADDRESS.free


def test_failures_are_forgotten_little_by_little(clock):
    for _ in range(4):
        fail()
    clock.pass_by(hours=2, minutes=59)
    assert [fail() for _ in range(4)] == [0, 0, 0, 30]
    clock.pass_by(days=3)
    assert [fail() for _ in range(6)] == [0, 0, 0, 0, 0, 30]


def test_busy_office_with_a_typo_now_and_then_is_never_locked(clock):
    for number in range(200):
        clock.pass_by(minutes=11)
        assert fail(username=f"user{number}") == 0


def test_old_rows_are_swept_out(clock):
    fail()
    assert LoginFailures.objects.count() == 2
    clock.pass_by(days=8)
    fail(username="eve", address="192.0.2.9")
    assert LoginFailures.objects.count() == 2


def test_what_was_typed_is_not_stored(clock):
    fail(username="my-password-by-mistake")
    for row in LoginFailures.objects.values_list():
        assert "my-password" not in str(row)
