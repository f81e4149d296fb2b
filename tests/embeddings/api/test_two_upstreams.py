"""Two upstreams of one kind, behind real HTTP: each answers with its own key, under its own name."""

from contextlib import ExitStack

import numpy as np
import pytest

from embeddings.models import UsageHour
from embeddings.services.usage.ledger import usage
from providers.built_in import built_in
from providers.models import (
    AllowlistEntry,
    Breaker,
    ModelEntry,
    ProviderSetting,
    RemoteSpace,
)
from providers.operator_settings import reader
from providers.registry import BUILT_IN, registry
from providers.seeding import seed_registry
from tests.upstreams import Fault, OpenAIUpstream, vectors_for

URL = "/api/v1/embeddings"
SMALL = "text-embedding-3-small"


@pytest.fixture
def upstreams(fakes, settings, monkeypatch):
    """The rows `eu` and `us`, both of kind openai, each with a server and a key of its own."""
    (place,) = (one.place for one in built_in() if one.name == "openai")
    monkeypatch.setitem(BUILT_IN, "openai", place)
    registry.cache_clear()
    seed_registry(allowed_providers=[], allowed_models=[])
    with ExitStack() as stack:
        rows = {name: OpenAIUpstream() for name in ("eu", "us")}
        for name, upstream in rows.items():
            upstream.api_key = f"sk-stub-key-of-{name}-0123"
            stack.enter_context(upstream)
            key = {"api_key": upstream.api_key, "timeout_seconds": 5}
            settings.PROVIDERS = {**settings.PROVIDERS, name: key}
            ProviderSetting.objects.create(
                name=name, kind="openai", base_url=upstream.base_url
            )
        registry.cache_clear()
        reader.cache_clear()
        yield rows
        for provider in map(registry().get, rows):
            getattr(provider, "close", int)()


def changed(rows, **values):
    rows.update(**values)
    reader.cache_clear()


def ask(post, name, text="a", **headers):
    return post({"input": text, "model": f"{name}:{SMALL}"}, **headers)


def test_each_answers_with_its_own_key_label_and_space(post, upstreams):
    for name, upstream in upstreams.items():
        answer = ask(post, name)
        assert answer.status_code == 200, answer.content
        assert answer.json()["model"] == f"{name}:{SMALL}"
        assert answer.headers["X-Embeddings-Provider"] == name
        assert answer.headers["X-Embeddings-Vector-Space"] == f"{name}:{SMALL}"
        vector = answer.json()["data"][0]["embedding"]
        np.testing.assert_allclose(vector, vectors_for(["a"], 1536)[0], atol=1e-6)
        (call,) = upstream.calls
        assert call.headers["authorization"] == f"Bearer {upstream.api_key}"


def test_row_is_named_by_header_and_by_field_in_any_case(post, upstreams):
    by_header = post({"input": "a", "model": SMALL}, **{"x-provider": "US"})
    body = {"texts": ["b"], "model": SMALL, "provider": "Us"}
    by_field = post(body, path=f"{URL}/batch")
    assert by_header.headers["X-Embeddings-Provider"] == "us"
    assert by_field.headers["X-Embeddings-Provider"] == "us"
    assert (len(upstreams["eu"].calls), len(upstreams["us"].calls)) == (0, 2)


def test_bare_name_stays_the_default_provider_s(post, upstreams):
    answer = post({"input": "a", "model": SMALL})
    assert answer.headers["X-Embeddings-Fallback-From"] == "openai"
    assert not upstreams["eu"].calls


def test_row_can_be_the_default_provider(post, upstreams, configure):
    configure(default_provider="eu")
    answer = post({"input": "a", "model": SMALL})
    assert answer.headers["X-Embeddings-Provider"] == "eu"


def test_no_row_stands_in_for_another_unless_the_chain_says_so(
    post, upstreams, configure
):
    upstreams["eu"].fault = Fault.UNAUTHORIZED
    assert ask(post, "eu").status_code == 503
    assert not upstreams["us"].calls
    configure(fallback_chain={"eu": ("gone", "us")})
    answer = ask(post, "eu")
    assert answer.headers["X-Embeddings-Provider"] == "us"
    assert answer.headers["X-Embeddings-Fallback-From"] == "eu"
    assert answer.headers["X-Embeddings-Vector-Space"] == f"us:{SMALL}"


def test_same_space_falls_back_only_where_the_operator_said_it_is_one(
    post, upstreams, configure
):
    same_space = {"X-Embeddings-Fallback": "same_space"}
    configure(fallback_chain={"eu": ("us",)})
    upstreams["eu"].fault = Fault.UNAUTHORIZED
    assert ask(post, "eu", **same_space).status_code == 503
    for name in upstreams:
        ModelEntry.objects.create(
            provider=name, name=SMALL, dimensions=1536, vector_space="ours"
        )
    reader.cache_clear()
    answer = ask(post, "eu", **same_space)
    assert answer.headers["X-Embeddings-Provider"] == "us"
    assert answer.headers["X-Embeddings-Vector-Space"] == "ours"


def test_failures_open_the_breaker_of_one_row_alone(post, client, upstreams):
    upstreams["eu"].fault = Fault.UNAUTHORIZED
    for number in range(5):
        ask(post, "eu", f"text {number}")
    rows = client.get(f"{URL}/circuit-breakers").json()["data"]
    states = {row["provider"]: row["state"] for row in rows}
    assert (states["eu"], states["us"], states["openai"]) == (
        "open",
        "closed",
        "closed",
    )
    assert ask(post, "us").status_code == 200
    reset = client.post(f"{URL}/circuit-breakers/EU/reset")
    assert (reset.status_code, Breaker.objects.get(provider="eu").state) == (
        200,
        "closed",
    )


def test_cache_knows_the_rows_apart(post, upstreams):
    for _ in range(2):
        for name in upstreams:
            ask(post, name)
    assert [len(upstream.calls) for upstream in upstreams.values()] == [1, 1]


def test_cached_vectors_are_not_answered_under_another_space_s_label(post, upstreams):
    ask(post, "eu")
    ModelEntry.objects.create(
        provider="eu", name=SMALL, dimensions=1536, vector_space="other"
    )
    reader.cache_clear()
    assert ask(post, "eu").headers["X-Embeddings-Vector-Space"] == "other"
    assert len(upstreams["eu"].calls) == 2


def test_allowlist_and_switch_of_a_row(post, upstreams):
    AllowlistEntry.objects.create(kind="provider", pattern="us")
    reader.cache_clear()
    refused = ask(post, "eu")
    assert refused.status_code == 403
    assert refused.json()["detail"] == "Provider 'eu' is not allowed"
    assert ask(post, "us").status_code == 200
    changed(ProviderSetting.objects.filter(name="us"), enabled=False)
    assert ask(post, "us", "b").status_code == 403


def test_usage_is_counted_by_row(post, upstreams):
    for name in upstreams:
        ask(post, name)
    usage().flush()
    rows = UsageHour.objects.values_list("provider", "model", "requests")
    assert sorted(rows) == [("eu", SMALL, 1), ("us", SMALL, 1)]


def test_rows_and_their_models_are_listed(client, upstreams):
    models = client.get(f"{URL}/models").json()["data"]
    assert {one["model"] for one in models if one["provider"] == "eu"} == {
        "text-embedding-3-small",
        "text-embedding-3-large",
        "text-embedding-ada-002",
    }
    ids = [one["id"] for one in client.get("/api/v1/models").json()["data"]]
    assert f"eu:{SMALL}" in ids
    report = client.get(f"{URL}/providers-config").json()["providers"]
    kinds = {one["name"]: (one["kind"], one["configured"]) for one in report}
    assert kinds["eu"] == kinds["us"] == ("openai", True)
    assert kinds["cohere"] == ("cohere", False)


def test_metrics_are_labelled_by_row(post, client, upstreams):
    ask(post, "eu")
    latency = client.get(f"{URL}/metrics").json()["latency"]
    assert ("eu", SMALL) in {(one["provider"], one["model"]) for one in latency}
    assert client.get(f"{URL}/metrics").json()["circuit_breakers"]["us"] == {
        "state": "closed",
        "failure_count": 0,
    }


def test_row_is_watched_at_its_own_address(post, upstreams, settings, monkeypatch):
    settings.EMBEDDINGS_CANARY = True
    monkeypatch.setattr(
        "embeddings.services.space_watch.start_thread", lambda work: work()
    )
    for name in upstreams:
        ask(post, name)
    rows = RemoteSpace.objects.values_list("provider", "host", "state")
    hosts = {
        name: upstream.address.split("//")[1] for name, upstream in upstreams.items()
    }
    assert sorted(rows) == [(name, host, "ok") for name, host in sorted(hosts.items())]


def test_row_of_a_kind_that_is_not_installed_is_a_problem_and_no_crash(
    post, client, upstreams, configure
):
    changed(ProviderSetting.objects.filter(name="eu"), kind="gone")
    answer = ask(post, "eu")
    assert answer.status_code == 409
    assert "eu: The plug-in gone is not installed" in answer.json()["detail"]
    report = client.get(f"{URL}/providers-config").json()["providers"]
    (row,) = (one for one in report if one["name"] == "eu")
    assert (row["kind"], row["configured"]) == ("gone", False)
    configure(fallback_chain={"eu": ("us",)})
    assert ask(post, "eu").headers["X-Embeddings-Provider"] == "us"
