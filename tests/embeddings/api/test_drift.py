"""A remote model that gives other vectors than it gave: what callers and operators see of it."""

from dataclasses import replace

import numpy as np
import pytest
from rest_framework.test import APIClient

from providers.canary import accept, canary
from providers.exceptions import ProviderUnavailable
from providers.models import RemoteSpace
from providers.operator_settings import reader
from providers.registry import registry
from providers.seeding import seed_registry
from tests.fakes import MINILM

URL = "/api/v1/embeddings"
OPENAI = "text-embedding-3-small"
SPACE = f"openai/{OPENAI}"


@pytest.fixture(autouse=True)
def openai(fakes, settings):
    settings.EMBEDDINGS_CANARY = True
    seed_registry(allowed_providers=[], allowed_models=[])
    fakes["openai"].problem = None
    check(fakes["openai"])
    return fakes["openai"]


@pytest.fixture(autouse=True)
def asked_for(monkeypatch):
    """The checks that answers ask for, left undone; tests make their own."""
    works = []
    monkeypatch.setattr("embeddings.services.space_watch.start_thread", works.append)
    return works


def check(provider, model=OPENAI):
    """Check as a day later, and have this process know the outcome."""
    RemoteSpace.objects.update(checked_at="2020-01-01T00:00Z")
    spec = registry().resolve(provider, model)
    assert spec is not None
    canary().check(provider, spec)
    reader.cache_clear()


def exchange(provider, model=OPENAI):
    provider.variant = "another model: "
    check(provider, model)


def accept_all():
    for row in RemoteSpace.objects.all():
        assert accept(row.pk, by="eve")
    reader.cache_clear()


def vector(response):
    return response.json()["data"][0]["embedding"]


def test_answer_of_a_remote_model_asks_for_its_check(post, openai, asked_for):
    post({"input": "a", "model": f"onnx:{MINILM}"})
    assert asked_for == []
    RemoteSpace.objects.update(checked_at="2020-01-01T00:00Z")
    openai.variant = "another model: "
    post({"input": "a", "model": OPENAI})
    assert RemoteSpace.objects.get().state == "ok"
    (make_check,) = asked_for
    make_check()
    assert RemoteSpace.objects.get().state == "drifted"


def test_answers_say_that_their_model_drifted(post, openai):
    ask = {"input": "a", "model": OPENAI}
    assert "X-Embeddings-Drift" not in post(ask).headers
    exchange(openai)
    assert post(ask).headers["X-Embeddings-Drift"] == "true"
    batch = post({"texts": ["a"], "model": OPENAI}, path=f"{URL}/batch")
    assert batch.headers["X-Embeddings-Drift"] == "true"
    other = post({"input": "a", "model": f"onnx:{MINILM}"})
    assert "X-Embeddings-Drift" not in other.headers


def test_answer_from_the_former_model_again_says_nothing(post, openai):
    exchange(openai)
    openai.variant = ""
    check(openai)
    response = post({"input": "a", "model": OPENAI})
    assert "X-Embeddings-Drift" not in response.headers
    assert response.headers["X-Embeddings-Vector-Space"] == SPACE


def test_accepted_revision_has_a_space_of_its_own(post, openai):
    exchange(openai)
    accept_all()
    response = post({"input": "a", "model": OPENAI})
    assert "X-Embeddings-Drift" not in response.headers
    assert response.headers["X-Embeddings-Vector-Space"] == f"{SPACE}#2"


def test_vectors_of_a_drifted_model_neither_come_from_the_cache_nor_go_there(
    post, openai
):
    ask = {"input": "a", "model": OPENAI}
    former = vector(post(ask))
    exchange(openai)
    drifted = [vector(post(ask)), vector(post(ask))]
    assert drifted[0] == drifted[1] != former
    assert [call for call in openai.calls if call == ["a"]] == [["a"]] * 3
    openai.variant = ""
    check(openai)
    assert vector(post(ask)) == former


def test_cache_parts_the_revisions(post, openai):
    ask = {"input": "a", "model": OPENAI}
    former = vector(post(ask))
    exchange(openai)
    accept_all()
    now = vector(post(ask))
    assert not np.allclose(now, former)
    assert vector(post(ask)) == now
    assert [call for call in openai.calls if call == ["a"]] == [["a"]] * 2


def test_switched_off_nothing_is_said(post, openai, settings):
    exchange(openai)
    settings.EMBEDDINGS_CANARY = False
    reader.cache_clear()
    response = post({"input": "a", "model": OPENAI})
    assert "X-Embeddings-Drift" not in response.headers


def drift_of(client):
    return client.get(f"{URL}/metrics").json()["drift"]


def test_metrics_list_the_spaces(client, openai):
    (row,) = drift_of(client)
    assert row["state"] == "ok"
    exchange(openai)
    (row,) = drift_of(client)
    assert (row["provider"], row["model"]) == ("openai", OPENAI)
    assert (row["state"], row["revision"]) == ("drifted", 1)
    assert row["cosine"] < 0.999
    assert row["checked_at"] > "2020-01-02"


def prometheus():
    return APIClient().get("/metrics").content.decode()


def test_prometheus_shows_drift_and_its_end(openai):
    series = f'embedding_space_drift{{model="{OPENAI}",provider="openai"}}'
    assert f"{series} 0.0" in prometheus()
    exchange(openai)
    assert f"{series} 1.0" in prometheus()
    accept_all()
    assert f"{series} 0.0" in prometheus()


def counted(client, name):
    rows = client.get(f"{URL}/metrics").json()["counters"][name]
    return sum(row["value"] for row in rows if row["model"] == OPENAI)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("embedding_space_drifts_total", None),
        ("embedding_space_check_failures_total", ProviderUnavailable("down")),
    ],
)
def test_drifts_and_failed_checks_are_counted(
    client, post, openai, asked_for, name, fault
):
    before = counted(client, name)
    post({"input": "a", "model": OPENAI})
    openai.variant, openai.fault = "another model: ", fault
    RemoteSpace.objects.update(checked_at="2020-01-01T00:00Z")
    asked_for.pop()()
    assert counted(client, name) == before + 1


def test_names_that_users_pass_on_are_no_labels_of_drift(openai, monkeypatch):
    local_api = registry().get("local_api")
    assert local_api is not None
    monkeypatch.setattr(local_api, "embed", openai.embed)
    spec = registry().resolve(local_api, "my-private-name")
    assert spec is not None
    canary().check(local_api, replace(spec, dimensions=16))
    text = prometheus()
    assert "my-private-name" not in text
    assert 'embedding_space_drift{model="other",provider="local_api"} 0.0' in text


def test_providers_config_names_the_models_that_drifted(client, openai):
    exchange(openai)
    providers = client.get(f"{URL}/providers-config").json()["providers"]
    (models,) = [p["models"] for p in providers if p["name"] == "openai"]
    assert {m["model"]: m["drifted"] for m in models} == {
        OPENAI: True,
        "text-embedding-ada-002": False,
    }


@pytest.mark.parametrize(("mode", "status"), [("same_space", 409), ("any", 200)])
def test_drifted_model_is_a_fallback_only_where_any_may_be(
    post, fakes, openai, monkeypatch, configure, mode, status
):
    configure(fallback_chain={"onnx": ("openai",)}, fallback_models={"*": OPENAI})
    monkeypatch.setattr(fakes["onnx"], "specs", openai.specs)
    exchange(openai)
    fakes["onnx"].configuration_problem = lambda: "No runtime."
    response = post(
        {"input": "a", "model": f"onnx:{OPENAI}"}, **{"X-Embeddings-Fallback": mode}
    )
    assert response.status_code == status
    if status == 200:
        assert response.headers["X-Embeddings-Drift"] == "true"
