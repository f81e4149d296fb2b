"""One way to remember for a moment, and one to leave alone what failed."""

import threading

import pytest

from providers.state import timed
from providers.state.timed import Fresh, Rest


class Timer:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def timer():
    return Timer()


def test_value_is_read_again_once_it_is_too_old(timer):
    values = iter(range(9))
    fresh = Fresh(lambda: next(values), seconds=2.0, timer=timer)
    assert [fresh.get(), fresh.get()] == [0, 0]
    timer.now += 1.9
    assert fresh.get() == 0
    timer.now += 0.1
    assert [fresh.get(), fresh.get()] == [1, 1]


def test_while_one_thread_reads_the_others_go_on_with_a_value_that_is_just_too_old(
    timer,
):
    reads, entered, go_on = iter("ab"), threading.Event(), threading.Event()

    def read():
        value = next(reads)
        if value == "b":
            entered.set()
            assert go_on.wait(20)
        return value

    fresh = Fresh(read, seconds=1.0, timer=timer)
    assert fresh.get() == "a"
    timer.now += 1.5
    thread = threading.Thread(target=fresh.get)
    thread.start()
    assert entered.wait(20)
    assert fresh.get() == "a"
    go_on.set()
    thread.join()
    assert fresh.get() == "b"


@pytest.mark.parametrize("reading_seconds", [20, 0.01])
def test_after_idle_times_the_others_wait_for_the_reader_but_not_for_ever(
    timer, monkeypatch, reading_seconds
):
    monkeypatch.setattr(timed, "READING_SECONDS", reading_seconds)
    reads, entered, go_on = iter("ab"), threading.Event(), threading.Event()

    def read():
        value = next(reads)
        if value == "b":
            entered.set()
            assert go_on.wait(20)
        return value

    fresh = Fresh(read, seconds=1.0, timer=timer)
    assert fresh.get() == "a"
    timer.now += 100
    found: list[str] = []
    reader = threading.Thread(target=fresh.get)
    reader.start()
    assert entered.wait(20)
    other = threading.Thread(target=lambda: found.append(fresh.get()))
    other.start()
    if reading_seconds < 1:
        other.join()
    go_on.set()
    reader.join()
    other.join()
    assert found == ["b" if reading_seconds > 1 else "a"]


def test_for_the_first_value_all_wait_and_one_reads(timer):
    counted, go_on = [], threading.Event()

    def read():
        counted.append(1)
        assert go_on.wait(20)
        return "a"

    fresh = Fresh(read, seconds=1.0, timer=timer)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(fresh.get())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert (found, counted) == (["a"] * 4, [1])


def test_a_read_that_fails_is_made_again_by_the_next_caller(timer):
    outcomes = iter([OSError("gone"), "a"])

    def read():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    fresh = Fresh(read, seconds=1.0, timer=timer)
    with pytest.raises(OSError, match="gone"):
        fresh.get()
    assert fresh.get() == "a"


def test_one_caller_at_a_time_asks_what_failed_until_it_works(timer):
    rest = Rest(5.0, timer=timer)
    assert [rest.may_ask() for _ in range(3)] == [True] * 3
    rest.failed()
    assert not rest.may_ask()
    timer.now += 5
    assert [rest.may_ask() for _ in range(3)] == [True, False, False]
    timer.now += 5
    assert rest.may_ask()
    rest.worked()
    assert [rest.may_ask() for _ in range(3)] == [True] * 3
