"""Which embeddings are the same: what was asked for once is not made again, unless something of it is another now."""

import pytest

from media_jobs import chunking
from media_jobs.models import Job, MediaItem
from media_jobs.tasks import work

TEXT = "".join(f"Sentence number {number} says little. " for number in range(40))


@pytest.fixture
def job(create, start, model):
    media_id = create(TEXT)["media_id"]
    job_id = start(media_id, chunk_size=100, chunk_overlap=0).json()["job_id"]
    return Job.objects.get(public_id=job_id)


def again(start, job, **changes):
    return start(job.media_id, chunk_size=100, chunk_overlap=0, **changes)


def test_changed_chunker_makes_another_job(job, model, start, monkeypatch):
    work()
    assert again(start, job).status_code == 200
    monkeypatch.setattr(chunking, "CHUNKER_VERSION", 999)
    assert again(start, job).status_code == 202


def test_other_splitter_makes_another_job(job, model, start, monkeypatch):
    work()
    monkeypatch.setattr(chunking, "version", lambda name: f"{name} 999")
    assert again(start, job).status_code == 202


def test_other_token_limit_makes_another_job(job, model, start):
    work()
    model.change(max_tokens=9)
    assert again(start, job).status_code == 202


def test_other_native_sizes_make_another_job(job, model, start):
    again(start, job, dimensions=4)
    work()
    assert again(start, job, dimensions=4).status_code == 200
    model.change(native_dimensions=(4, 8))
    assert again(start, job, dimensions=4).status_code == 202


def test_vectors_of_an_unknown_revision_are_not_the_same(job, model, start):
    work()
    MediaItem.objects.update(embedded_revision=None)
    model.change(revision="2")
    assert again(start, job).status_code == 202


def test_vectors_made_while_the_model_was_another_are_not_the_same(
    create, start, model
):
    model.change(revision="1")
    media_id = create()["media_id"]
    start(media_id)
    model.change(revision="2")
    work()
    assert MediaItem.objects.get().embedded_revision == "2"
    model.change(revision="1")
    assert start(media_id).status_code == 202
