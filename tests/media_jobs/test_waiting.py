"""Jobs whose provider is away: they wait, say until when, and no attempt counts."""

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from media_jobs.models import Job
from media_jobs.services import claims, runs
from media_jobs.services.claims import MAX_WAIT, MIN_WAIT, WAIT_SPREAD, claim_next, wait
from media_jobs.tasks import work
from providers.breaker import FAILURES_TO_OPEN
from providers.exceptions import (
    BreakerOpen,
    Overloaded,
    ProviderDenied,
    ProviderThrottled,
    ProviderTimeout,
    ProviderUnavailable,
)
from providers.models import Breaker
from tests.media_jobs.conftest import claimed_job

DAY = 86400
REMOTE = {"embedding_model": "openai:text-embedding-3-small"}


@pytest.fixture
def openai(fakes):
    fakes["openai"].problem = None
    return fakes["openai"]


@pytest.fixture
def job(create, start, openai):
    job_id = start(create()["media_id"], **REMOTE).json()["job_id"]
    return Job.objects.get(public_id=job_id)


def fresh(job):
    job.refresh_from_db()
    return job


def make_due():
    Job.objects.update(not_before=timezone.now() - timedelta(seconds=1))


def pause_of(job):
    return (fresh(job).not_before - timezone.now()).total_seconds()


@pytest.mark.parametrize(
    "fault",
    [
        ProviderThrottled("Slow down.", retry_after_seconds=40),
        ProviderThrottled("Slow down."),
        Overloaded("Full."),
    ],
)
def test_job_of_a_provider_that_throttles_waits_and_no_attempt_counts(
    job, openai, fault
):
    openai.fault = fault
    for _ in range(8):
        make_due()
        work()
        assert (fresh(job).status, job.attempts) == ("queued", 0)
    openai.fault = None
    Breaker.objects.all().delete()
    make_due()
    work()
    assert (fresh(job).status, job.attempts) == ("completed", 1)


def test_job_says_until_when_it_waits_and_why_and_no_more_once_it_runs(
    job, openai, job_of, client
):
    openai.fault = ProviderThrottled("Slow down.", retry_after_seconds=40)
    work()
    shown = job_of(job.public_id)
    assert (shown["status"], shown["error"]) == ("queued", None)
    assert "Slow down" in shown["waiting_reason"]
    assert shown["waiting_until"] > timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    assert 39 < pause_of(job) <= 40 * (1 + WAIT_SPREAD)
    (current,) = client.get("/api/v1/media/embeddings/jobs").json()["data"]
    assert current["waiting_until"] == shown["waiting_until"]
    openai.fault = None
    make_due()
    work()
    shown = job_of(job.public_id)
    assert (shown["waiting_until"], shown["waiting_reason"]) == (None, None)


def test_job_that_is_tried_again_says_when(job, openai, job_of):
    openai.fault = ProviderUnavailable("Down.")
    work()
    shown = job_of(job.public_id)
    assert shown["attempts"] == 1
    assert shown["waiting_until"]
    assert shown["waiting_reason"] == shown["error"]


def test_outage_fails_no_job_however_long_it_is(job, create, start, openai):
    """The failures that open the breaker are the last to count; from then on all wait."""
    start(create("other")["media_id"], **REMOTE)
    openai.fault = ProviderUnavailable("Down.")
    for _ in range(30):
        make_due()
        Breaker.objects.update(retry_at=timezone.now(), probe_until=None)
        work()
    assert set(Job.objects.values_list("status", flat=True)) == {"queued"}
    assert max(Job.objects.values_list("attempts", flat=True)) < FAILURES_TO_OPEN
    openai.fault = None
    Breaker.objects.update(retry_at=timezone.now(), probe_until=None)
    make_due()
    work()
    assert set(Job.objects.values_list("status", flat=True)) == {"completed"}


def test_lone_job_outlives_an_outage(job, openai):
    """Its own fifth failure opens the breaker."""
    openai.fault = ProviderTimeout("Late.")
    for _ in range(30):
        make_due()
        Breaker.objects.update(retry_at=timezone.now(), probe_until=None)
        work()
    assert (fresh(job).status, job.attempts) == ("queued", FAILURES_TO_OPEN - 1)


def test_job_waits_until_the_breaker_lets_calls_through_and_calls_nobody(job, openai):
    retry_at = timezone.now() + timedelta(seconds=50)
    Breaker.objects.create(provider="openai", state="open", retry_at=retry_at)
    work()
    assert openai.calls == []
    assert (fresh(job).status, job.attempts) == ("queued", 0)
    assert 0 <= (job.not_before - retry_at).total_seconds() <= 50 * WAIT_SPREAD
    assert "breaker of openai is open" in job.waiting_reason


def test_one_job_finds_out_for_all_of_its_model_that_the_breaker_is_open(
    job, create, start, openai
):
    """Thousands that each found out for themselves would keep the worker from all others."""
    for number in range(3):
        start(create(str(number))["media_id"], **REMOTE)
    start(
        create("other model")["media_id"],
        embedding_model="openai:text-embedding-ada-002",
    )
    local = start(create("local")["media_id"]).json()["job_id"]
    retry_at = timezone.now() + timedelta(seconds=50)
    Breaker.objects.create(provider="openai", state="open", retry_at=retry_at)
    work()
    assert Job.objects.get(public_id=local).status == "completed"
    away = Job.objects.exclude(public_id=local)
    assert away.filter(started_at=None).count() == 3
    for waiting in away:
        assert (waiting.status, waiting.attempts) == ("queued", 0)
        assert "breaker of openai is open" in waiting.waiting_reason
        assert 48 < (waiting.not_before - timezone.now()).total_seconds() <= 55
        assert waiting.waited_seconds >= 49


def test_throttled_job_puts_no_other_off(job, create, start, openai):
    """Its own batches may be what is too much."""
    start(create("second")["media_id"], **REMOTE)
    openai.fault = ProviderThrottled("Slow down.", retry_after_seconds=600)
    real, seen = openai.embed, []

    def embed(model, texts, **options):
        seen.append(texts)
        openai.fault = openai.fault if len(seen) == 1 else None
        return real(model, texts, **options)

    openai.embed = embed
    work()
    statuses = Job.objects.order_by("pk").values_list("status", flat=True)
    assert list(statuses) == ["queued", "completed"]


def test_document_that_fails_at_a_provider_that_answers_others_has_its_attempts_only(
    job, openai
):
    """The successes of others keep the breaker closed."""
    openai.fault = ProviderUnavailable("Down.")
    for _ in range(claims.MAX_ATTEMPTS):
        make_due()
        work()
        Breaker.objects.update(failure_count=0)
    assert (fresh(job).status, job.attempts) == ("failed", claims.MAX_ATTEMPTS)


def test_document_that_the_local_engine_fails_on_has_its_attempts_only(
    create, start, fakes
):
    """That its failures open the breaker says nothing for it."""
    for fake in fakes.values():
        fake.fault = ProviderTimeout("Late.")
    start(create()["media_id"])
    for _ in range(claims.MAX_ATTEMPTS):
        make_due()
        work()
    assert Job.objects.get().status == "failed"


def test_bad_key_fails_the_job_at_once(job, openai):
    openai.fault = ProviderDenied("Bad key.")
    work()
    assert (fresh(job).status, job.attempts) == ("failed", 1)


def test_failure_that_counts_beside_one_that_does_not_counts(
    create, start, fakes, monkeypatch
):
    fakes["onnx"].fault = BreakerOpen("Open.", retry_after_seconds=50)
    fakes["huggingface"].fault = ProviderUnavailable("Down.")
    start(create()["media_id"])
    work()
    assert Job.objects.get().attempts == 1


def test_database_that_does_not_answer_costs_no_attempt(job, openai, monkeypatch):
    def away(*args, **kwargs):
        raise OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_store", away)
        work()
    assert (fresh(job).status, job.attempts) == ("queued", 0)
    make_due()
    work()
    assert fresh(job).status == "completed"


def test_pauses_grow_with_the_time_waited_up_to_a_quarter_of_an_hour(job):
    waited = []
    for _ in range(60):
        wait(claimed_job(), "Away.", seconds=0)
        waited.append(pause_of(job))
        make_due()
    spread = 1 + WAIT_SPREAD
    assert MIN_WAIT - 1 < waited[0] <= MIN_WAIT * spread
    assert waited[10] > waited[0] * spread
    assert MAX_WAIT - 1 < waited[-1] <= MAX_WAIT * spread


def test_pause_is_no_longer_than_a_quarter_of_an_hour_whatever_a_provider_says(job):
    """It asks again, and the provider may say the same again."""
    wait(claimed_job(), "Come back tomorrow.", seconds=DAY)
    assert pause_of(job) <= MAX_WAIT * (1 + WAIT_SPREAD)


def test_jobs_that_wait_together_do_not_come_back_together(create, start, openai):
    pauses = set()
    for number in range(5):
        start(create(str(number))["media_id"], **REMOTE)
        held = claimed_job()
        wait(held, "Away.", seconds=600)
        pauses.add(round(pause_of(held)))
    assert len(pauses) > 1


def test_job_fails_with_the_reason_once_it_has_waited_for_days(job, openai, media_conf):
    media_conf(wait_days=0.5)
    openai.fault = ProviderThrottled("Slow down.", retry_after_seconds=600)
    waited = 0
    while fresh(job).status == "queued":
        waited += pause_of(job)
        make_due()
        Breaker.objects.all().delete()
        work()
        assert waited < DAY
    assert job.status == "failed"
    assert "Slow down" in job.error
    assert "given up after 0.5 days" in job.error
    assert waited == pytest.approx(DAY / 2, rel=0.12)


def test_waiting_begins_again_once_a_job_has_made_a_step(create, start, openai):
    text = "".join(f"Sentence number {number} says little. " for number in range(300))
    start(create(text)["media_id"], chunk_size=50, chunk_overlap=0, **REMOTE)
    Job.objects.update(waited_seconds=5 * DAY)
    real = openai.embed

    def embed(*args, **kwargs):
        if openai.calls:
            raise ProviderThrottled("Slow down.")
        return real(*args, **kwargs)

    openai.embed = embed
    work()
    job = Job.objects.get()
    assert job.chunks_processed == runs.BATCH_CHUNKS
    assert job.waited_seconds <= MIN_WAIT * (1 + WAIT_SPREAD) + 1


@pytest.mark.parametrize("set_by", [timedelta(hours=-1), timedelta(hours=1)])
def test_clock_that_is_set_loses_no_job_that_waits(job, openai, monkeypatch, set_by):
    openai.fault = ProviderThrottled("Slow down.", retry_after_seconds=600)
    work()
    openai.fault = None
    now = timezone.now() + set_by
    monkeypatch.setattr(timezone, "now", lambda: now)
    work()
    assert fresh(job).status == "completed"


def test_job_that_waits_as_long_as_any_may_is_not_due(job):
    longest = MAX_WAIT * (1 + WAIT_SPREAD)
    Job.objects.update(not_before=timezone.now() + timedelta(seconds=longest))
    assert claim_next() is None


def test_job_that_waits_can_be_cancelled(job, openai, client):
    openai.fault = ProviderThrottled("Slow down.", retry_after_seconds=600)
    work()
    answer = client.post(f"/api/v1/media/embeddings/jobs/{job.public_id}/cancel")
    assert answer.json()["status"] == "cancelled"
    assert answer.json()["waiting_until"] is None
