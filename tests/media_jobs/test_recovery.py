"""Jobs whose processes died, whose calls were lost, or that nobody takes."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from media_jobs.models import Job
from media_jobs.services.claims import MAX_ATTEMPTS, claim_next
from media_jobs.services.recovery import (
    SILENT_SECONDS,
    call_for_waiting,
    hand_back_mine,
    take_up_lost,
    waits_in_vain,
)


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


def claimed_by(pid, worker="tests"):
    claim_next()
    Job.objects.update(claim=f"{worker}:{pid}:0")


def fresh(job):
    job.refresh_from_db()
    return job


def test_job_of_a_dead_process_is_put_back_and_counted(job, dead_pid):
    claimed_by(dead_pid)
    assert take_up_lost() == 1
    assert (fresh(job).status, job.attempts) == ("queued", 1)
    assert "died" in job.error


def test_first_death_costs_no_pause_and_the_next_do(job, dead_pid):
    """One is an accident; a job that kills its process again and again must not take all its time."""
    waits = []
    for _ in range(2):
        claimed_by(dead_pid)
        take_up_lost()
        waits.append((fresh(job).not_before - timezone.now()).total_seconds())
        Job.objects.update(not_before=timezone.now() - timedelta(seconds=1))
    assert waits[0] <= 0 < waits[1] <= 5


def test_job_of_a_living_process_is_left_alone(job):
    claimed_by(os.getpid())
    assert take_up_lost() == 0
    assert fresh(job).status == "processing"


def test_after_a_restart_no_process_is_taken_for_alive(job):
    claimed_by(os.getpid())
    assert take_up_lost(none_alive=True) == 1


def test_crash_loop_ends(job, dead_pid):
    for _ in range(MAX_ATTEMPTS):
        Job.objects.update(not_before=timezone.now() - timedelta(seconds=1))
        claimed_by(dead_pid)
        take_up_lost()
    assert fresh(job).status == "failed"
    assert "died" in job.error
    assert claim_next() is None


def test_worker_elsewhere_is_trusted_until_it_is_silent_for_long(job, dead_pid):
    claimed_by(dead_pid, worker="elsewhere")
    assert take_up_lost(none_alive=True) == 0
    long_ago = timezone.now() - timedelta(seconds=SILENT_SECONDS + 1)
    Job.objects.update(heartbeat_at=long_ago)
    assert take_up_lost() == 1


def test_silent_worker_elsewhere_is_not_judged_by_a_process_of_this_machine(job):
    claimed_by(os.getpid(), worker="elsewhere")
    long_ago = timezone.now() - timedelta(seconds=SILENT_SECONDS + 1)
    Job.objects.update(heartbeat_at=long_ago)
    assert take_up_lost() == 1


def test_notice_that_is_due_gets_a_call(job):
    OrmQ.objects.all().delete()
    Job.objects.update(status="completed", webhook_due_at=timezone.now())
    call_for_waiting()
    assert OrmQ.objects.count() == 1


def test_job_tells_when_it_first_began(job, dead_pid):
    claimed_by(dead_pid)
    began = fresh(job).started_at
    take_up_lost()
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
    Job.objects.update(not_before=timezone.now() + timedelta(hours=1))
    call_for_waiting()
    assert OrmQ.objects.count() == 0


def test_job_waits_in_vain_only_while_nothing_runs(job, create, start):
    assert not waits_in_vain(seconds=30)
    Job.objects.update(not_before=timezone.now() - timedelta(seconds=31))
    assert waits_in_vain(seconds=30)
    claim_next()
    start(create("other")["media_id"])
    Job.objects.update(not_before=timezone.now() - timedelta(seconds=31))
    assert not waits_in_vain(seconds=30)
