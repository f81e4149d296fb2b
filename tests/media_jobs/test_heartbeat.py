"""Beats beside a run: they go on while it does, and no longer."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError

from media_jobs.services import heartbeat
from media_jobs.services.heartbeat import MAX_GAP_SECONDS, Heartbeat, Watch
from tests.waiting import poll


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.01)


ZERO = datetime(2026, 1, 1, tzinfo=UTC)
ONE, TWO = ZERO + timedelta(seconds=1), ZERO + timedelta(seconds=2)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Beats:
    """Count, and answer as a run's own beat would."""

    def __init__(self, holds=True, fault=None):
        self.number, self.holds, self.fault = 0, holds, fault

    def __call__(self):
        self.number += 1
        if self.fault:
            raise self.fault
        return self.holds


def heart_of(beats, clock):
    heart = Heartbeat(beats, step_seconds=600)
    heart.clock = clock
    heart.step()
    return heart


def beats_again(beats):
    before = beats.number
    poll(lambda: beats.number > before + 2, what="another beat")


def test_slow_step_beats_until_its_time_is_over_and_the_next_step_beats_again():
    beats, clock = Beats(), Clock()
    with heart_of(beats, clock) as heart:
        clock.now = 599
        beats_again(beats)
        clock.now = 601
        assert not heart.is_moving()
        heart.step()
        assert heart.is_moving()
        beats_again(beats)


def test_step_that_takes_longer_than_all_its_deadlines_does_not_beat():
    """A lock that nobody lets go: the interpreter runs, and the run does not."""
    beats, clock = Beats(), Clock()
    heart = heart_of(beats, clock)
    clock.now = 601
    looked = threading.Event()
    real = heart.is_moving

    def is_moving():
        if beats.number == 0 and heart._ended.is_set() is False:
            looked.set()
        return real()

    heart.is_moving = is_moving
    with heart:
        assert looked.wait(20)
    assert beats.number == 0


def test_beats_end_with_the_block():
    beats = Beats()
    with heart_of(beats, Clock()) as heart:
        beats_again(beats)
    assert not heart._thread.is_alive()


def test_run_that_lost_its_job_beats_no_more():
    beats = Beats(holds=False)
    with heart_of(beats, Clock()) as heart:
        poll(lambda: not heart._thread.is_alive(), what="the end of the beats")
    assert beats.number == 1


def test_database_that_is_away_for_a_while_ends_no_beats():
    beats = Beats(fault=OperationalError("gone"))
    with heart_of(beats, Clock()):
        beats_again(beats)


def test_silence_is_counted_by_the_watchs_own_clock_while_a_value_stands_still():
    watch, clock = Watch(), Clock()
    watch.clock = clock
    assert watch.look({"a": ONE, "b": ONE}) == {"a": 0, "b": 0}
    clock.now = 10
    assert watch.look({"a": ONE, "b": TWO}) == {"a": 10, "b": 0}
    clock.now = 15
    assert watch.look({"a": ONE, "c": ONE}) == {"a": 15, "c": 0}
    clock.now = 16
    assert watch.look({"a": ZERO, "b": TWO}) == {"a": 0, "b": 0}


def test_watch_that_was_held_up_counts_only_a_part_of_it():
    watch, clock = Watch(), Clock()
    watch.clock = clock
    watch.look({"a": ONE})
    clock.now = 1000
    assert watch.look({"a": ONE}) == {"a": MAX_GAP_SECONDS}
