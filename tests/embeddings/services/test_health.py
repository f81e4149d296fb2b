"""What /readyz and the health endpoint say: whether a request of one word would be answered, and what else fails."""

import contextlib
import errno
import os
import tempfile
import time
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from rest_framework.test import APIClient

from embeddings.services import health
from embeddings.services.health import HealthProbe, health_probe
from providers.exceptions import ProviderMisconfigured, ProviderUnavailable
from providers.models import AllowlistEntry, Breaker, Revision
from providers.operator_settings import reader
from providers.registry import registry
from tests.fakes import MINILM

HEALTH = "/api/v1/embeddings/health"


class Timer:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def timer():
    return Timer()


@pytest.fixture
def probe(fakes, timer):
    probe = HealthProbe()
    probe.timer = timer
    return probe


@pytest.fixture
def allow(db):
    """Return a function that makes the console's allowlist these `kind=pattern` entries alone."""
    Revision.objects.update_or_create(pk=1, defaults={"allowlists_seeded": True})

    def entries(**patterns):
        for kind, pattern in patterns.items():
            AllowlistEntry.objects.create(kind=kind, pattern=pattern)
        reader.cache_clear()

    return entries


def open_breaker(provider, *, seconds=30):
    now = timezone.now()
    Breaker.objects.create(
        provider=provider,
        state="open",
        failure_count=5,
        opened_at=now,
        retry_at=now + timedelta(seconds=seconds),
    )


@pytest.mark.parametrize(
    "entry",
    [
        {"provider": "huggingface"},
        {"provider": "hugg*"},
        {"model": MINILM},
        {"model": f"onnx:{MINILM}"},
        {"model": "sentence-transformers/*"},
    ],
)
def test_an_allowlist_without_the_default_model_is_ready_by_what_it_allows(
    allow, entry, fakes
):
    allow(**entry)
    answer = APIClient().get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert APIClient().get(HEALTH).json()["status"] == "healthy"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"provider": "openai"}, "(openai: OPENAI_API_KEY is not set)"),
        ({"model": "text-embedding-3-small"}, "OPENAI_API_KEY is not set"),
        ({"model": "no-such-model"}, "(local_api: LOCAL_API_URL is not set)"),
        ({"provider": "no-such-provider"}, "Nothing allowed is set up."),
    ],
)
def test_an_allowlist_of_what_is_not_set_up_is_503_with_the_reason(
    allow, entry, reason, fakes
):
    allow(**entry)
    for path, status in (("/readyz", "not ready"), (HEALTH, "degraded")):
        answer = APIClient().get(path)
        assert (answer.status_code, answer.json()["status"]) == (503, status)
        assert answer.json()["problem"].startswith("Nothing allowed is set up")
        assert reason in answer.json()["problem"]


@pytest.mark.parametrize(
    "entry",
    [
        {"provider": "local_api"},
        {"model": "local_api:nomic-embed-text"},
        {"model": "local_api:*"},
        {"provider": "local_api", "model": "nomic*"},
    ],
)
def test_a_provider_that_passes_names_on_is_ready_once_it_is_set_up(
    allow, entry, fakes, settings
):
    allow(**entry)
    refused = APIClient().get("/readyz")
    assert refused.status_code == 503
    assert "LOCAL_API_URL" in refused.json()["problem"]
    options = {**settings.PROVIDERS["local_api"], "base_url": "http://127.0.0.1:9"}
    settings.PROVIDERS = {**settings.PROVIDERS, "local_api": options}
    registry.cache_clear()
    health_probe.cache_clear()
    assert APIClient().get("/readyz").status_code == 200


def test_a_remote_default_that_is_set_up_is_not_called(fakes, probe):
    fakes["openai"].problem = None
    assert probe.check().healthy
    assert not any(fake.calls for fake in fakes.values())


def test_a_remote_default_with_an_open_breaker_is_ready_by_its_fallback(fakes, probe):
    fakes["openai"].problem = None
    open_breaker("openai")
    outcome = probe.check()
    assert outcome.healthy
    [reason] = outcome.degraded
    assert reason.startswith(f"huggingface:{MINILM} answers by fallback: ")
    assert "breaker of openai is open until" in reason


def test_a_remote_default_with_an_open_breaker_and_no_fallback_is_not_ready(
    fakes, probe, configure
):
    configure(fallback="off")
    fakes["openai"].problem = None
    open_breaker("openai")
    assert "breaker of openai" in probe.check().problem


def test_a_breaker_that_lets_the_next_call_through_is_ready(fakes, probe, configure):
    """Or no request would come here that could close it."""
    configure(fallback="off")
    fakes["openai"].problem = None
    open_breaker("openai", seconds=-1)
    assert probe.check().healthy


def test_a_local_breaker_that_is_open_counts(fakes, probe, configure):
    configure(fallback="off", default_provider="onnx", default_model="only-onnx")
    open_breaker("onnx")
    assert "breaker of onnx" in probe.check().problem


def test_files_that_are_refused_are_no_reason_to_be_ready_by_another_model(
    fakes, probe, configure
):
    configure(fallback="off", default_provider="onnx", default_model="only-onnx")
    fakes["onnx"].fault = ProviderMisconfigured("Its files are refused.")
    assert probe.check().problem == "Its files are refused."


def test_a_default_that_is_not_prepared_leaves_the_next_model_to_serve(
    fakes, probe, configure, monkeypatch
):
    configure(fallback="off", default_provider="onnx", default_model="only-onnx")
    fakes["onnx"].fault = ProviderMisconfigured("only-onnx is not prepared.")
    monkeypatch.setattr(fakes["onnx"], "downloaded", lambda model: False)
    assert probe.check().healthy
    assert fakes["huggingface"].calls


def test_a_full_disk_is_degraded_and_ready(fakes, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    answer = APIClient().get("/readyz")
    assert answer.status_code == 200
    [reason] = answer.json()["degraded"]
    assert reason.startswith("DATA_DIR cannot be written to (the disk is full)")
    assert APIClient().get(HEALTH).json()["degraded"] == [reason]


def test_a_read_only_database_is_degraded_and_ready(fakes, monkeypatch):
    monkeypatch.setattr(health, "_database_is_read_only", lambda: True)
    answer = APIClient().get("/readyz")
    assert answer.status_code == 200
    assert "The database is read-only" in answer.json()["degraded"][0]


@contextlib.contextmanager
def database_away():
    def fail(*_):
        raise OperationalError("gone")

    with connection.execute_wrapper(fail):
        yield


def test_a_database_that_is_away_leaves_a_minute_of_readiness(probe, timer):
    assert probe.check() == health.Health()
    with database_away():
        timer.now += 60
        outcome = probe.check()
        assert outcome.healthy
        assert outcome.degraded == (health.ABSENT,)
        timer.now += 6
        assert probe.check() == health.Health(problem="The database does not answer.")
    timer.now += 6
    assert probe.check() == health.Health()


def test_a_server_that_never_reached_its_database_is_not_ready(probe):
    with database_away():
        assert probe.check() == health.Health(problem="The database does not answer.")


def test_an_answer_to_another_process_of_the_server_counts_for_a_minute(
    probe, tmp_path, monkeypatch
):
    monkeypatch.setattr(health, "server_folder", lambda: tmp_path)
    assert HealthProbe().check().healthy
    with database_away():
        assert probe.check().degraded == (health.ABSENT,)
        past = time.time() - 61
        os.utime(tmp_path / health.ANSWERED, (past, past))
        assert not HealthProbe().check().healthy


def test_warm_up_loads_what_the_default_falls_back_to(fakes):
    fakes["openai"].problem = None
    health.warm_up()
    assert fakes["huggingface"].calls == [["health"]]
    assert not fakes["openai"].calls


def test_warm_up_that_fails_ends_nothing(fakes):
    fakes["huggingface"].fault = ProviderUnavailable("No memory.")
    health.warm_up()
