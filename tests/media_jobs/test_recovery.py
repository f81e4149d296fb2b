"""Jobs whose processes died, whose calls were lost, or that nobody takes."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone
from django_q.models import OrmQ

from media_jobs.models import Job
from media_jobs.services import claims, recovery
from media_jobs.services.claims import MAX_ATTEMPTS, claim_next, worker_id, write
from media_jobs.services.heartbeat import BEAT_SECONDS, Watch
from media_jobs.services.recovery import (
    HUNG_SECONDS,
    SILENT_SECONDS,
    call_for_waiting,
    hand_back_mine,
    left_lying,
    put_back_lost,
)

NEVER_BEFORE = "0123456789ab"


@pytest.fixture
def job(create, start):
    job_id = start(create()["media_id"]).json()["job_id"]
    return Job.objects.get(public_id=job_id)


@pytest.fixture
def dead_pid():
    """The id of a process that was."""
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    return finished.pid


class Supervision:
    """A supervisor's looks, one a second by a clock of the test, and the processes that it ended."""

    def __init__(self):
        self.now, self.ended = 1000.0, []
        self.watch = Watch()
        self.watch.clock = lambda: self.now

    def look(self, **options):
        self.now += 1
        return put_back_lost(self.watch, end=self.ended.append, **options)

    def looks(self, seconds, each=lambda: None):
        """Look for so long; return the jobs that were put back."""
        lost = 0
        for _ in range(int(seconds)):
            each()
            lost += self.look()
        return lost


@pytest.fixture
def supervision():
    return Supervision()


def claimed_by(pid, worker=None):
    claim_next()
    Job.objects.update(claim=f"{worker or worker_id()}:{pid}:0")


def fresh(job):
    job.refresh_from_db()
    return job


def test_job_of_a_dead_process_is_put_back_and_counted(job, dead_pid, supervision):
    claimed_by(dead_pid)
    assert supervision.look() == 1
    assert (fresh(job).status, job.attempts) == ("queued", 1)
    assert "died" in job.error


def test_first_death_costs_no_pause_and_the_next_do(job, dead_pid, supervision):
    """One is an accident; a job that kills its process again and again must not take all its time."""
    waits = []
    for _ in range(2):
        claimed_by(dead_pid)
        supervision.look()
        waits.append((fresh(job).not_before - timezone.now()).total_seconds())
        Job.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    assert waits[0] <= 0 < waits[1] <= 5


def test_job_of_a_living_process_is_left_alone(job, supervision):
    claimed_by(os.getpid())
    assert supervision.look() == 0
    assert fresh(job).status == "processing"


def test_no_process_of_a_worker_that_is_known_to_be_dead_is_taken_for_alive(
    job, supervision
):
    claimed_by(os.getpid(), worker=NEVER_BEFORE)
    assert supervision.look(dead=["ba9876543210"]) == 0
    assert supervision.look(dead=[NEVER_BEFORE]) == 1


def test_crash_loop_ends(job, dead_pid, supervision):
    for _ in range(MAX_ATTEMPTS):
        Job.objects.update(not_before=timezone.now() - timedelta(seconds=1))
        claimed_by(dead_pid)
        supervision.look()
    assert fresh(job).status == "failed"
    assert "died" in job.error
    assert claim_next() is None


def test_process_that_stands_still_is_ended_and_its_job_queued_again_within_two_minutes(
    job, supervision
):
    claimed_by(os.getpid())
    assert supervision.looks(HUNG_SECONDS) == 0
    assert supervision.ended == []
    assert supervision.looks(120 - HUNG_SECONDS) == 1
    assert supervision.ended == [os.getpid()]
    assert (fresh(job).status, job.attempts) == ("queued", 1)
    assert "stopped responding" in job.error


def test_process_that_hangs_is_ended_before_anything_is_written(
    job, supervision, monkeypatch
):
    """It may hold a lock in the database, SQLite's only one even."""
    claimed_by(os.getpid())
    supervision.looks(HUNG_SECONDS)

    def locked(*args, **kwargs):
        raise OperationalError("database is locked")

    monkeypatch.setattr(recovery, "try_again", locked)
    with pytest.raises(OperationalError):
        supervision.looks(5)
    assert supervision.ended == [os.getpid()]


def test_process_that_beats_is_left_alone_however_long_it_takes(job, supervision):
    claimed_by(os.getpid())

    def beat():
        if supervision.now % BEAT_SECONDS == 0:
            Job.objects.update(heartbeat_at=timezone.now())

    assert supervision.looks(300, beat) == 0
    assert fresh(job).status == "processing"


def test_job_that_its_living_process_left_behind_is_put_back_and_the_process_lives_on(
    job, create, start, supervision
):
    """A run whose last write failed: the process went on to the next job."""
    claimed_by(os.getpid())
    other = start(create("other")["media_id"]).json()["job_id"]
    claim_next()

    def beat():
        Job.objects.filter(public_id=other).update(heartbeat_at=timezone.now())

    assert supervision.looks(HUNG_SECONDS + 5, beat) == 1
    assert supervision.ended == []
    assert fresh(job).status == "queued"
    assert Job.objects.get(public_id=other).status == "processing"


def test_worker_elsewhere_is_trusted_until_its_heartbeat_stood_still_for_long(
    job, dead_pid, supervision
):
    claimed_by(dead_pid, worker=NEVER_BEFORE)
    assert supervision.looks(SILENT_SECONDS) == 0
    assert supervision.looks(120 - SILENT_SECONDS) == 1
    assert supervision.ended == []
    assert "not heard of" in fresh(job).error


def test_jobs_of_a_copied_data_folder_are_another_workers(job, dead_pid, supervision):
    """Whose pids mean nothing here: the process may live on the other machine."""
    claimed_by(dead_pid, worker=NEVER_BEFORE)

    def beat():
        Job.objects.update(heartbeat_at=timezone.now())

    assert supervision.looks(300, beat) == 0
    assert (fresh(job).status, job.attempts) == ("processing", 1)


def test_worker_is_another_at_each_start():
    before = worker_id()
    assert worker_id() == before
    worker_id.cache_clear()
    assert worker_id() != before


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("worker", [None, NEVER_BEFORE])
def test_clock_that_is_set_takes_no_living_run_for_dead(
    job, supervision, monkeypatch, hours, worker
):
    claimed_by(os.getpid(), worker=worker)
    now = timezone.now()
    held = fresh(job)

    def beat():
        passed = supervision.now - 1000
        moved = timedelta(hours=hours) if passed > 60 else timedelta(0)
        monkeypatch.setattr(
            timezone, "now", lambda: now + timedelta(seconds=passed) + moved
        )
        if passed % BEAT_SECONDS == 0:
            write(held)

    assert supervision.looks(200, beat) == 0
    assert (fresh(job).status, job.attempts) == ("processing", 1)


@pytest.mark.parametrize("hours", [-1, 1])
def test_clock_that_is_set_does_not_hide_a_run_that_hangs(
    job, supervision, monkeypatch, hours
):
    claimed_by(os.getpid())
    supervision.look()
    moved = timezone.now() + timedelta(hours=hours)
    monkeypatch.setattr(timezone, "now", lambda: moved)
    assert supervision.looks(120) == 1


def test_database_that_was_away_makes_nobody_dead(job, supervision, monkeypatch):
    """While it was, no heartbeat could be written: each run gets its whole time again."""
    claimed_by(os.getpid())
    supervision.looks(60)

    class Away:
        def filter(self, *args, **kwargs):
            raise OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(Job, "objects", Away())
        with pytest.raises(OperationalError):
            supervision.look()
    assert supervision.looks(HUNG_SECONDS - 5) == 0


def test_supervisor_that_was_held_up_makes_nobody_dead(job, supervision):
    claimed_by(os.getpid())
    supervision.look()
    supervision.now += 600
    assert supervision.look() == 0


def test_supervisor_that_is_slow_still_finds_what_hangs(job, supervision):
    """Each write may wait 20 s for a lock that the hung process itself holds."""
    claimed_by(os.getpid())
    supervision.look()
    for _ in range(4):
        supervision.now += 20
        supervision.look()
    assert supervision.ended == [os.getpid()]


def test_job_tells_when_it_first_began(job, dead_pid, supervision):
    claimed_by(dead_pid)
    began = fresh(job).started_at
    supervision.look()
    claim_next()
    assert (fresh(job).started_at, job.attempts) == (began, 2)


def test_stopping_worker_hands_back_its_own_jobs_uncounted(job, create, start):
    other = start(create("other")["media_id"]).json()["job_id"]
    claimed_by(os.getpid())
    Job.objects.filter(public_id=other).update(
        status="processing", claim="elsewhere:1:0"
    )
    assert hand_back_mine() == 1
    assert (fresh(job).status, job.attempts) == ("queued", 0)
    assert Job.objects.get(public_id=other).status == "processing"


def test_waiting_job_gets_one_call(job):
    OrmQ.objects.all().delete()
    call_for_waiting()
    call_for_waiting()
    assert OrmQ.objects.count() == 1


def test_job_that_is_not_due_gets_no_call(job):
    Job.objects.update(not_before=timezone.now() + timedelta(seconds=claims.MAX_WAIT))
    call_for_waiting()
    assert OrmQ.objects.count() == 0


def test_job_is_left_lying_only_while_nothing_runs(job, create, start):
    assert left_lying() == job.pk
    claim_next()
    start(create("other")["media_id"])
    assert left_lying() is None
