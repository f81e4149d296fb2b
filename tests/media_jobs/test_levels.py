"""What Prometheus is told of jobs, and of how things stand."""

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from rest_framework.test import APIClient

from embeddings.services import levels
from embeddings.services.processes import Beat
from media_jobs.models import Job
from providers.models import Breaker

pytestmark = pytest.mark.django_db


@pytest.fixture
def levels_now():
    """Return a function that asks /metrics and returns its samples: (name, labels' values) -> value."""

    def ask():
        answer = APIClient().get("/metrics")
        assert answer.status_code == 200
        families = text_string_to_metric_families(answer.content.decode())
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }

    return ask


def a_job(number, **fields):
    return Job.objects.create(
        public_id=f"mej_{number}",
        media_id=number,
        caller="single_user",
        embedding_provider="huggingface",
        embedding_model="m",
        chunk_size=100,
        chunk_overlap=0,
        **fields,
    )


def test_jobs_that_may_run_are_counted_and_the_longest_wait_of_them(levels_now):
    now = timezone.now()
    a_job(
        1, created_at=now - timedelta(minutes=5), not_before=now - timedelta(minutes=5)
    )
    # Put off since: it could begin a minute ago.
    a_job(2, created_at=now - timedelta(hours=5), not_before=now - timedelta(minutes=1))
    a_job(3, created_at=now - timedelta(hours=5), not_before=now + timedelta(minutes=1))
    a_job(4, status="processing")
    found = levels_now()
    assert found["media_jobs_due",] == 2
    assert found["media_jobs_running",] == 1
    assert 300 <= found["media_jobs_oldest_due_seconds",] < 360


def test_no_job_is_no_wait(levels_now):
    found = levels_now()
    assert found["media_jobs_due",] == found["media_jobs_oldest_due_seconds",] == 0


def test_a_breaker_that_another_node_opened_is_shown(levels_now, fakes):
    Breaker.objects.create(provider="openai", state="open")
    assert levels_now()["embedding_breaker_state", "openai"] == 2
    Breaker.objects.all().delete()
    assert levels_now()["embedding_breaker_state", "openai"] == 0


def test_processes_of_this_machine_are_shown_with_their_memory(levels_now):
    Beat("web").when_due()
    found = levels_now()
    assert found["embedding_processes", "web"] == 1
    assert found["embedding_process_memory_bytes", "web"] > 2**20
    assert found["embedding_processes", "worker"] == 0


def test_a_full_disk_is_shown(levels_now, monkeypatch):
    assert levels_now()["embedding_degraded", "disk"] == 0
    monkeypatch.setattr(levels, "disk_problem", lambda: "The disk is full.")
    assert levels_now()["embedding_degraded", "disk"] == 1


def test_metrics_are_served_while_the_database_is_away(levels_now, monkeypatch):
    def away():
        raise OperationalError("The database does not answer.")

    monkeypatch.setattr(levels, "shown", [away])
    assert levels_now()["embedding_degraded", "database"] == 1
    monkeypatch.undo()
    assert levels_now()["embedding_degraded", "database"] == 0
