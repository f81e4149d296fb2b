"""How jobs fare: pace, what happened, the queue, the worker's light, and starting one again."""

from datetime import timedelta

import pytest
from django.utils import timezone

from embeddings.services.callers import SYSTEM
from embeddings.services.errors import Conflict
from embeddings.services.processes import Beat
from media_jobs.models import Job, MediaItem
from media_jobs.services import claims
from media_jobs.services.claims import hand_back, try_again, wait
from media_jobs.services.jobs import cancel_job, retry_job
from media_jobs.services.progress import pace_of, queue, timeline, worker_light
from media_jobs.tasks import work
from providers.exceptions import ProviderUnavailable
from tests.media_jobs.conftest import claimed_job

NOW = timezone.now()


def job(**fields):
    return Job(**{"status": "processing", "caller": "user:1", **fields})


def test_pace_is_of_the_time_since_the_start():
    found = pace_of(
        job(
            started_at=NOW - timedelta(seconds=10),
            heartbeat_at=NOW,
            chunks_processed=50,
            chunks_total=150,
        )
    )
    assert (found.chunks_per_second, found.seconds_left) == (5.0, 20.0)


@pytest.mark.parametrize(
    "fields", [{}, {"started_at": NOW, "heartbeat_at": NOW, "chunks_processed": 1}]
)
def test_job_that_has_just_begun_has_no_pace(fields):
    found = pace_of(job(**fields))
    assert (found.chunks_per_second, found.seconds_left) == (None, None)


def test_job_that_has_ended_has_a_pace_and_no_time_left():
    found = pace_of(
        job(
            status="completed",
            started_at=NOW - timedelta(seconds=10),
            finished_at=NOW,
            chunks_processed=50,
            chunks_total=50,
        )
    )
    assert (found.chunks_per_second, found.seconds_left) == (5.0, None)


@pytest.fixture
def queued(create, start):
    start(create()["media_id"])
    return Job.objects.get()


def steps():
    return [(step.what, step.detail, step.tone) for step in timeline(Job.objects.get())]


def test_attempts_and_their_errors_are_told_in_order(queued):
    try_again(claimed_job(), "It broke.", pause_seconds=60)
    assert steps() == [
        ("Asked for", "by single_user", ""),
        ("An attempt failed", "It broke.", "bad"),
        ("Next attempt", "It broke.", "warn"),
    ]
    Job.objects.update(not_before=timezone.now())
    work()
    assert [what for what, *_ in steps()] == [
        "Asked for",
        "An attempt failed",
        "An attempt succeeded",
        "Completed",
    ]


def test_like_waits_are_one_step(queued):
    for _ in range(3):
        wait(claimed_job(), "The provider is away.", seconds=10)
        Job.objects.update(not_before=timezone.now())
    assert ("Put off (3 times)", "The provider is away.", "warn") in steps()
    assert len(Job.objects.get().history) == 1


def test_history_is_bounded(queued, monkeypatch):
    monkeypatch.setattr(claims, "MAX_HISTORY", 3)
    for number in range(5):
        wait(claimed_job(), f"Reason {number}.", seconds=10)
        Job.objects.update(not_before=timezone.now())
    kept = [entry["reason"] for entry in Job.objects.get().history]
    assert kept == ["Reason 2.", "Reason 3.", "Reason 4."]


def test_run_that_gives_way_is_no_failure(queued):
    hand_back(claimed_job())
    assert ("Interrupted, to go on later", "", "") in steps()


def test_attempt_that_runs_is_shown(queued):
    claimed_job()
    assert ("Attempt 1 began", "", "") in steps()


def test_queue_has_each_job_once(create, start):
    for number in range(4):
        start(create(f"Text {number}.")["media_id"])
    running, failing = claimed_job(), claimed_job()
    try_again(failing, "It broke.", pause_seconds=60)
    found = queue(Job.objects.all())
    assert [one.pk for one in found.running] == [running.pk]
    assert [one.pk for one in found.put_back] == [failing.pk]
    assert len(found.next) == 2
    assert (found.running_count, found.waiting_count) == (1, 3)


def test_queue_takes_few_queries_however_many_jobs(
    create, start, django_assert_num_queries
):
    for number in range(30):
        start(create(f"Text {number}.")["media_id"])
    with django_assert_num_queries(6):
        assert len(queue(Job.objects.all()).next) == 20


def test_light_shows_a_worker_at_work_and_one_that_is_missing(queued):
    assert worker_light().state == "absent"
    assert "manage.py runworker" in worker_light().sentence
    Beat("worker").when_due()
    assert worker_light().state == "busy"
    Job.objects.update(not_before=timezone.now() - timedelta(seconds=31))
    assert worker_light().state == "stuck"
    claimed_job()
    assert worker_light().state == "working"
    Job.objects.update(status="completed")
    assert worker_light().state == "idle"


def test_job_that_failed_is_started_again_with_its_options(fakes, create, start):
    media_id = create()["media_id"]
    fakes["onnx"].fault = ProviderUnavailable("It is away.")
    start(media_id, chunk_size=70, chunk_overlap=7, priority=9)
    job = claimed_job()
    claims.fail(job, "It broke.")
    fakes["onnx"].fault = None
    started = retry_job(SYSTEM, job.public_id)
    assert started.is_new
    work()
    done = Job.objects.get(pk=started.job.pk)
    assert done.status == "completed"
    assert (done.chunk_size, done.chunk_overlap, done.priority) == (70, 7, 9)
    assert Job.objects.get(pk=job.pk).status == "failed"


def test_cancelled_job_is_started_again(queued):
    cancel_job(SYSTEM, queued.public_id)
    assert retry_job(SYSTEM, queued.public_id).job.status == "queued"


@pytest.mark.parametrize("done", [False, True])
def test_job_that_has_not_failed_is_not_started_again(queued, done):
    if done:
        work()
    with pytest.raises(Conflict, match="only failed and cancelled jobs"):
        retry_job(SYSTEM, queued.public_id)


def test_what_is_stored_already_is_not_made_again_by_a_retry(queued, start):
    cancel_job(SYSTEM, queued.public_id)
    start(MediaItem.objects.get().pk)
    work()
    started = retry_job(SYSTEM, queued.public_id)
    assert not started.is_new
    assert started.message == "The same embeddings are stored already"
