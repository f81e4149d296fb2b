"""Who may take a job, who may write to it, and when it comes back."""

from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from media_jobs.models import Job
from media_jobs.services import claims
from media_jobs.services.claims import (
    MAX_ATTEMPTS,
    PAUSES,
    PAUSES_AFTER_DEATH,
    ClaimLost,
    claim_next,
    complete,
    due_jobs,
    fail,
    hand_back,
    try_again,
    write,
)
from tests.media_jobs.conftest import claimed_job


@pytest.fixture
def job(create, start):
    job_id = start(create()["media_id"]).json()["job_id"]
    return Job.objects.get(public_id=job_id)


@pytest.fixture
def now(monkeypatch, job):
    """The time by which jobs are due, which stands still until it is turned; the job is due now."""

    class Clock:
        moment = timezone.now()

        def turn(self, seconds):
            self.moment += timedelta(seconds=seconds)

    clock = Clock()
    monkeypatch.setattr(timezone, "now", lambda: clock.moment)
    Job.objects.update(not_before=clock.moment)
    return clock


def fresh(job):
    job.refresh_from_db()
    return job


def pause_of(job, now):
    return (fresh(job).not_before - now.moment).total_seconds()


def overtaken(job):
    """Give the job to another run, as recovery does with one that seems dead; return both runs' views of it."""
    old = claim_next()
    Job.objects.filter(pk=job.pk).update(status="queued", claim="")
    return old, claim_next()


ENDS_AND_WRITES = {
    "write": lambda job: write(job, chunks_processed=7),
    "complete": lambda job: complete(job, chunks=7),
    "fail": lambda job: fail(job, "No."),
    "hand_back": hand_back,
    "try_again": lambda job: try_again(job, "Down."),
}


@pytest.mark.parametrize("act", ENDS_AND_WRITES.values(), ids=ENDS_AND_WRITES)
def test_run_that_was_overtaken_changes_nothing_while_the_other_works(job, act):
    old, new = overtaken(job)
    before = Job.objects.filter(pk=job.pk).values().get()
    with pytest.raises(ClaimLost):
        act(old)
    assert Job.objects.filter(pk=job.pk).values().get() == before
    act(new)
    assert Job.objects.filter(pk=job.pk).values().get() != before


@pytest.mark.parametrize("act", ENDS_AND_WRITES.values(), ids=ENDS_AND_WRITES)
def test_run_whose_job_was_cancelled_changes_nothing(job, act):
    held = claim_next()
    Job.objects.update(status="cancelled")
    before = Job.objects.filter(pk=job.pk).values().get()
    with pytest.raises(ClaimLost):
        act(held)
    assert Job.objects.filter(pk=job.pk).values().get() == before


def test_job_that_another_worker_took_in_the_same_moment_is_left_to_it(
    job, create, start, monkeypatch
):
    second = start(create("other")["media_id"]).json()["job_id"]
    look = claims.due_jobs

    def look_and_be_overtaken():
        found = look()
        rows = list(found.values_list("pk", flat=True))
        monkeypatch.setattr(claims, "due_jobs", look)
        taken.append(claim_next())
        return Job.objects.filter(pk__in=rows).order_by("pk")

    taken = []
    monkeypatch.setattr(claims, "due_jobs", look_and_be_overtaken)
    mine = claimed_job()
    assert [other.pk for other in taken] == [job.pk]
    assert mine.public_id == second
    assert fresh(job).claim == taken[0].claim
    assert job.attempts == 1


def test_job_runs_no_sooner_than_it_is_due(job, now):
    Job.objects.update(not_before=now.moment + timedelta(seconds=5))
    assert claim_next() is None
    now.turn(5)
    assert claim_next() is not None


def test_urgent_jobs_come_first_then_those_that_wait_longest(job, create, start):
    for text, priority in (("later", 0), ("urgent", 5)):
        start(create(text)["media_id"], priority=priority)
    first, second, third = Job.objects.order_by("pk")
    Job.objects.filter(pk=first.pk).update(created_at=timezone.now())
    assert [found.pk for found in due_jobs()] == [third.pk, second.pk, first.pk]


def test_job_began_when_it_was_first_taken(job, now):
    claim_next()
    began = fresh(job).started_at
    now.turn(60)
    hand_back(job)
    assert fresh(claim_next()).started_at == began == now.moment - timedelta(seconds=60)


def test_every_write_shows_that_the_run_lives(job, now):
    held = claimed_job()
    now.turn(60)
    write(held)
    assert fresh(job).heartbeat_at == now.moment


@pytest.mark.parametrize("pauses", [PAUSES, PAUSES_AFTER_DEATH])
def test_pauses_between_attempts_grow_and_the_last_ends_the_job(job, now, pauses):
    waited = []
    for _ in range(MAX_ATTEMPTS - 1):
        try_again(claimed_job(), "Down.", pauses=pauses)
        waited.append(pause_of(job, now))
        now.turn(waited[-1])
    assert waited == list(pauses)
    try_again(claimed_job(), "Down.", pauses=pauses)
    assert fresh(job).status == "failed"
    assert job.error == "Down (given up after 5 attempts)."


def test_attempts_beyond_the_pauses_wait_as_long_as_the_last_of_them(job, now):
    for pause in (5, 30, 30):
        try_again(claimed_job(), "Down.", pauses=(5, 30))
        assert pause_of(job, now) == pause
        now.turn(pause)


@pytest.mark.parametrize(("asked", "waits"), [(900, 900), (1, 5), (0, 5), (None, 5)])
def test_provider_can_make_a_job_wait_longer_and_not_shorter(job, now, asked, waits):
    try_again(claimed_job(), "Slow down.", pause_seconds=asked)
    assert pause_of(job, now) == waits


def test_worker_is_called_for_a_job_that_is_due_again_at_once_only(job, now):
    def calls_after(act):
        held = claim_next()
        OrmQ.objects.all().delete()
        act(held)
        return OrmQ.objects.count()

    assert calls_after(hand_back) == 1
    assert calls_after(lambda held: try_again(held, "Died.", pauses=(0, 5))) == 1
    assert calls_after(lambda held: try_again(held, "Down.", pauses=(5, 5))) == 0


def test_what_was_handed_back_is_no_failed_attempt(job):
    hand_back(claimed_job())
    assert (fresh(job).status, job.attempts, job.claim) == ("queued", 0, "")
    assert claimed_job().attempts == 1


def test_job_that_ends_well_keeps_no_word_of_the_failure_before(job, now):
    try_again(claimed_job(), "Down.")
    now.turn(PAUSES[0])
    complete(claimed_job(), chunks=3)
    assert (fresh(job).status, job.error, job.claim) == ("completed", "", "")
    assert (job.chunks_total, job.chunks_processed) == (3, 3)
    assert job.finished_at == now.moment


@pytest.mark.parametrize("url", ["", "https://example.org/notice"])
@pytest.mark.parametrize(
    "end", [lambda job: complete(job, chunks=1), lambda job: fail(job, "No.")]
)
def test_notice_is_due_when_a_job_ends_that_has_an_address(job, now, url, end):
    Job.objects.update(webhook_url=url)
    end(claim_next())
    assert fresh(job).webhook_due_at == (now.moment if url else None)
