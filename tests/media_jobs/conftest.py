"""Fixtures of the media tests."""

from dataclasses import replace

import pytest

from media_jobs.models import Job
from media_jobs.services.claims import claim_next, worker_id
from providers import registry as registry_module
from tests.embeddings.multi_user import (  # noqa: F401
    access,
    ada,
    admin,
    client_of,
    key_of,
    make_user,
)
from tests.fakes import MINILM
from tests.media_jobs.changing import ChangingModel
from tests.media_jobs.console import console, people, stored  # noqa: F401

MEDIA = "/api/v1/media"


def claimed_job() -> Job:
    """Claim the next job, which there is."""
    job = claim_next()
    assert job is not None
    return job


@pytest.fixture(autouse=True)
def media_conf(settings, tmp_path):
    """Keep what jobs leave on disk apart; return a function that changes fields of the app's settings."""

    def change(**changes):
        settings.MEDIA_JOBS = replace(settings.MEDIA_JOBS, **changes)

    change(work_dir=tmp_path / "jobs")
    worker_id.cache_clear()
    return change


@pytest.fixture
def create(client, fakes):
    """Return a function that stores a document and returns the answer's body."""

    def send(content="The cat sat on the mat.", title="On cats", by=client, **fields):
        response = by.post(
            MEDIA, {"title": title, "content": content, **fields}, format="json"
        )
        assert response.status_code == 201, response.content
        return response.json()

    return send


@pytest.fixture
def start(client):
    """Return a function that starts a job of the fake onnx model and returns the answer."""

    def send(media_id, by=client, **body):
        body = {"embedding_model": f"onnx:{MINILM}", **body}
        return by.post(f"{MEDIA}/{media_id}/embeddings", body, format="json")

    return send


@pytest.fixture
def job_of(client):
    """Return a function that shows a job."""

    def get(job_id, by=client):
        return by.get(f"{MEDIA}/embeddings/jobs/{job_id}").json()

    return get


@pytest.fixture
def listed_at_once(monkeypatch):
    """Have every look at a provider's models be a fresh one."""
    monkeypatch.setattr(registry_module, "LISTING_SECONDS", 0.0)


@pytest.fixture
def model(fakes, listed_at_once):
    """The fake onnx model, changed by the test while jobs run."""
    return ChangingModel(fakes["onnx"])
