"""Runs that go wrong, are overtaken or begun again."""

import secrets
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from embeddings.models import LoggedRequest, UserLimits
from embeddings.services.cache.cache import embedding_cache
from embeddings.services.usage.ledger import usage
from media_jobs.chunking import spans
from media_jobs.conf import conf
from media_jobs.models import Job, MediaItem
from media_jobs.services import claims, runs, targets
from media_jobs.services.claims import MAX_ATTEMPTS, ClaimLost, claim_next, write
from media_jobs.services.runs import run
from media_jobs.tasks import work
from media_jobs.vector_store.store import vector_store
from providers.exceptions import (
    ProviderDenied,
    ProviderRejected,
    ProviderUnavailable,
)
from tests.fakes import vector_of
from tests.media_jobs.conftest import claimed_job

TEXT = "".join(f"Sentence number {number} says little. " for number in range(40))
NEVER = float("inf")


@pytest.fixture
def job(create, start):
    """A job of a document of twelve chunks or more, four a batch."""
    media_id = create(TEXT)["media_id"]
    job_id = start(media_id, chunk_size=100, chunk_overlap=0).json()["job_id"]
    return Job.objects.get(public_id=job_id)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(runs, "BATCH_CHUNKS", 4)


def fresh(job):
    job.refresh_from_db()
    return job


def stored(job):
    return vector_store().stats([job.media_id]).chunks


def make_due():
    Job.objects.update(not_before=timezone.now() - timedelta(seconds=1))


def test_stored_chunks_are_the_text_at_their_offsets_with_their_vectors(job):
    work()
    content = MediaItem.objects.get().content
    chunks = list(MediaItem.objects.get().chunks.order_by("index"))
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    for chunk in chunks:
        assert content[chunk.start : chunk.end] == chunk.text
    space = vector_store().stats().spaces[0]
    query = vector_of(chunks[3].text, 8)
    query /= (query @ query) ** 0.5
    best = vector_store().search(query, space, top_k=1)[0]
    assert best.text == chunks[3].text
    assert best.score == pytest.approx(1, abs=1e-5)


def test_batches_of_a_job_are_in_the_log_of_requests(job, fakes):
    work()
    usage().flush()
    rows = LoggedRequest.objects.filter(endpoint="job")
    assert {(row.request_id, row.status) for row in rows} == {(job.public_id, 200)}
    assert sum(row.texts for row in rows) == stored(job)


def test_batch_that_fails_is_in_the_log_with_its_reason(job, fakes):
    for fake in fakes.values():
        fake.fault = ProviderUnavailable("away")
    work()
    usage().flush()
    row = LoggedRequest.objects.get(endpoint="job")
    assert row.status == 500
    assert row.code


def test_failure_that_may_pass_is_tried_again(job, fakes):
    for fake in fakes.values():
        fake.fault = ProviderUnavailable("down")
    work()
    assert fresh(job).status == "queued"
    assert job.error
    assert job.not_before > timezone.now() + timedelta(seconds=4)
    for fake in fakes.values():
        fake.fault = None
    make_due()
    work()
    assert (fresh(job).status, job.error, job.attempts) == ("completed", "", 2)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (ProviderRejected("No such thing."), "No such thing."),
        (
            ProviderDenied("Bad key."),
            "No provider could answer (onnx: Bad key; huggingface: Bad key).",
        ),
    ],
)
def test_failure_that_lasts_fails_the_job_at_once(job, fakes, fault, reason):
    for fake in fakes.values():
        fake.fault = fault
    work()
    assert (fresh(job).status, job.attempts) == ("failed", 1)
    assert job.error == reason
    assert job.finished_at
    assert stored(job) == 0


def test_failure_that_may_pass_at_one_of_two_is_tried_again(job, fakes):
    fakes["onnx"].fault = ProviderDenied("Bad key.")
    fakes["huggingface"].fault = ProviderUnavailable("down")
    work()
    assert fresh(job).status == "queued"


def test_job_cancelled_at_its_last_write_stores_nothing(job, monkeypatch):
    store = vector_store()
    real = store.replace

    def replace_too_late(*args, **kwargs):
        Job.objects.update(status="cancelled")
        return real(*args, **kwargs)

    monkeypatch.setattr(store, "replace", replace_too_late)
    work()
    assert (fresh(job).status, stored(job)) == ("cancelled", 0)
    assert not MediaItem.objects.get().embedding_count


def test_file_damaged_while_it_is_stored_leaves_the_old_vectors_and_is_made_again(
    job, start, monkeypatch
):
    work()
    rows = MediaItem.objects.get().chunks.values_list("pk", flat=True)
    before = list(rows.all())
    later = start(job.media_id, chunk_size=200, chunk_overlap=0).json()["job_id"]
    store = vector_store()
    real = store.replace

    def replace_damaged(*args, **kwargs):
        file = conf().work_dir / f"{later}-rows"
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(store, "replace", replace_damaged)
        work()
    assert Job.objects.get(public_id=later).status == "queued"
    assert list(rows.all()) == before
    make_due()
    work()
    assert Job.objects.get(public_id=later).status == "completed"
    assert stored(job) == len(before)
    assert not set(rows.all()) & set(before)


def test_run_shows_that_it_lives_while_it_cuts_a_long_text(job, monkeypatch):
    seen: list[Any] = []
    long_ago = timezone.now() - timedelta(days=1)

    def slowly(*args, **kwargs):
        for span in spans(*args, **kwargs):
            Job.objects.update(heartbeat_at=long_ago)
            yield span
            seen.append(Job.objects.get().heartbeat_at)

    monkeypatch.setattr(runs, "BEAT_SECONDS", 0.0)
    monkeypatch.setattr(targets, "spans", slowly)
    work()
    assert min(seen) > long_ago


def test_attempts_are_not_endless(job, fakes):
    for fake in fakes.values():
        fake.fault = ProviderUnavailable("down")
    for _ in range(MAX_ATTEMPTS):
        make_due()
        work()
    assert (fresh(job).status, job.attempts) == ("failed", MAX_ATTEMPTS)
    assert "given up after 5 attempts" in job.error


def test_bug_is_logged_and_tried_again_and_not_shown(job, fakes):
    fakes["onnx"].fault = RuntimeError("secret detail")
    work()
    assert fresh(job).status == "queued"
    assert "secret" not in job.error


def test_other_model_of_the_same_space_may_be_the_fallback(job, fakes):
    fakes["onnx"].fault = ProviderUnavailable("down")
    work()
    assert fresh(job).status == "completed"
    assert fakes["huggingface"].calls


def test_run_goes_on_where_the_last_one_died(job, fakes):
    claimed = claimed_job()
    fakes["onnx"].fault = None
    calls = fakes["onnx"].calls

    def die_at_the_third(*args, **kwargs):
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    original = fakes["onnx"].embed
    fakes["onnx"].embed = die_at_the_third
    with pytest.raises(KeyboardInterrupt):
        run(claimed, until=NEVER)
    fakes["onnx"].embed = original
    assert stored(job) == 0
    Job.objects.update(status="queued", claim="")
    before = len(calls)
    work()
    assert fresh(job).status == "completed"
    texts = [text for call in calls[before:] for text in call]
    assert len(texts) == job.chunks_total - 8
    assert stored(job) == job.chunks_total
    assert not list(conf().work_dir.glob("mej_*"))


def test_cancelled_run_writes_nothing_more(job, fakes):
    def cancel_meanwhile(*args, **kwargs):
        Job.objects.update(status="cancelled")
        return original(*args, **kwargs)

    original = fakes["onnx"].embed
    fakes["onnx"].embed = cancel_meanwhile
    work()
    assert len(fakes["onnx"].calls) == 1
    assert (fresh(job).status, stored(job)) == ("cancelled", 0)
    assert not list(conf().work_dir.glob("mej_*"))


def test_run_that_was_overtaken_writes_nothing(job):
    old = claimed_job()
    Job.objects.update(status="queued", claim="")
    work()
    assert fresh(job).status == "completed"
    with pytest.raises(ClaimLost):
        write(old, chunks_processed=1)
    run(old, until=NEVER)
    assert fresh(job).attempts == 2
    assert job.status == "completed"


def test_run_that_was_overtaken_by_one_still_at_work_writes_nothing(job):
    old = claimed_job()
    Job.objects.update(status="queued", claim="")
    new = claimed_job()
    assert (new.status, new.claim != old.claim) == ("processing", True)
    with pytest.raises(ClaimLost):
        write(old, chunks_processed=1)
    run(old, until=NEVER)
    assert (fresh(job).status, job.claim) == ("processing", new.claim)
    assert (job.chunks_processed, stored(job)) == (0, 0)


def test_run_whose_time_is_up_hands_the_job_back_uncounted(job):
    run(claimed_job(), until=time.monotonic() - 1)
    assert (fresh(job).status, job.attempts) == ("queued", 0)
    work()
    assert fresh(job).status == "completed"


def test_text_changed_during_the_run_is_embedded_again(job, client, fakes):
    changed = []

    def change_meanwhile(*args, **kwargs):
        if not changed:
            changed.append(True)
            client.patch(
                f"/api/v1/media/{job.media_id}", {"content": "Brief."}, format="json"
            )
        return original(*args, **kwargs)

    original = fakes["onnx"].embed
    fakes["onnx"].embed = change_meanwhile
    work()
    assert fresh(job).status == "completed"
    item = MediaItem.objects.get()
    assert not item.is_stale
    assert [chunk.text for chunk in item.chunks.all()] == ["Brief."]


def test_document_deleted_during_the_run_leaves_nothing(job, client, fakes):
    def delete_meanwhile(*args, **kwargs):
        client.delete(f"/api/v1/media/{job.media_id}")
        return original(*args, **kwargs)

    original = fakes["onnx"].embed
    fakes["onnx"].embed = delete_meanwhile
    work()
    assert (fresh(job).status, stored(job)) == ("cancelled", 0)


def test_urgent_jobs_run_first_then_the_oldest(create, start):
    ids = [
        start(create(str(number))["media_id"], priority=priority).json()["job_id"]
        for number, priority in enumerate((0, 5, 0, -5))
    ]
    order = []
    while (job := claim_next()) is not None:
        order.append(ids.index(job.public_id))
    assert order == [1, 0, 2, 3]


def test_two_claims_never_get_the_same_job(job):
    assert claim_next() is not None
    assert claim_next() is None


def test_job_that_another_takes_in_the_same_moment_is_left_to_it(job, monkeypatch):
    def token_hex(length):
        Job.objects.update(status="processing", claim="elsewhere:1:0")
        return "00" * length

    monkeypatch.setattr(secrets, "token_hex", token_hex)
    assert claim_next() is None
    assert fresh(job).claim == "elsewhere:1:0"


def test_each_failure_waits_longer(job, fakes):
    for fake in fakes.values():
        fake.fault = ProviderUnavailable("down")
    waits = []
    for _ in range(MAX_ATTEMPTS - 1):
        make_due()
        before = timezone.now()
        work()
        waits.append(fresh(job).not_before - before)
    for wait, pause in zip(waits, claims.PAUSES, strict=True):
        assert wait.total_seconds() == pytest.approx(pause, rel=0.5)


def test_progress_is_reported_while_it_runs(job, fakes):
    seen = []

    def look(*args, **kwargs):
        seen.append(Job.objects.get().progress)
        return original(*args, **kwargs)

    original = fakes["onnx"].embed
    fakes["onnx"].embed = look
    work()
    assert seen[0] == 0
    assert seen == sorted(seen)
    assert 0.5 < seen[-1] < 1


def test_failed_replacement_leaves_the_old_vectors(job, start, fakes):
    work()
    before = stored(job)
    again = start(job.media_id, chunk_size=100, chunk_overlap=0, force_regenerate=True)
    for fake in fakes.values():
        fake.fault = ProviderRejected("No.")
    work()
    assert Job.objects.get(public_id=again.json()["job_id"]).status == "failed"
    assert stored(job) == before > 0


def test_job_of_a_user_who_is_gone_fails(create, start, client_of, ada):
    by = client_of(ada)
    start(create(by=by)["media_id"], by=by)
    User.objects.update(is_active=False)
    work()
    assert Job.objects.get().status == "failed"


def test_budget_that_is_spent_on_the_way_fails_the_job(
    create, start, client_of, ada, fakes
):
    UserLimits.objects.create(user=ada, monthly_tokens=50)
    by = client_of(ada)
    answer = start(
        create(TEXT, by=by)["media_id"], by=by, chunk_size=100, chunk_overlap=0
    )
    assert answer.status_code == 202
    work()
    job = Job.objects.get()
    assert (job.status, job.attempts) == ("failed", 1)
    assert "monthly budget of 50 tokens" in job.error
    assert job.chunks_total is not None
    assert 0 < job.chunks_processed < job.chunks_total
    assert stored(job) == 0


def test_spent_budget_starts_no_job(create, start, client_of, ada, fakes):
    UserLimits.objects.create(user=ada, monthly_tokens=5)
    by = client_of(ada)
    start(create("one two three four five six", by=by)["media_id"], by=by)
    work()
    media_id = create("seven eight nine", by=by)["media_id"]
    assert start(media_id, by=by).status_code == 429
    assert Job.objects.count() == 1


def test_mixed_sizes_of_vectors_are_never_stored(job, fakes, monkeypatch):
    def shrink(*args, **kwargs):
        embedded = original(*args, **kwargs)
        if len(fakes["onnx"].calls) > 1:
            object.__setattr__(embedded, "vectors", embedded.vectors[:, :4])
        return embedded

    original = fakes["onnx"].embed
    fakes["onnx"].embed = shrink
    work()
    assert fresh(job).status == "queued"
    assert stored(job) == 0
    make_due()
    work()
    assert (fresh(job).status, job.attempts) == ("completed", 2)
    assert vector_store().stats().spaces[0].dimensions == 4


def test_dimensions_are_kept(create, start):
    media_id = create(TEXT)["media_id"]
    start(media_id, dimensions=4)
    work()
    assert vector_store().stats([media_id]).spaces[0].dimensions == 4


def test_jobs_leave_the_cache_to_requests(job):
    before = embedding_cache().stats()
    work()
    assert fresh(job).status == "completed"
    assert embedding_cache().stats() == before
