import pytest
from rest_framework.test import APIClient

from embeddings.models import AuditEntry
from embeddings.services.cache.cache import embedding_cache
from providers.exceptions import ProviderUnavailable
from providers.models import AllowlistEntry, ModelEntry, ProviderSetting
from providers.operator_settings import reader
from providers.seeding import seed_registry
from tests.fakes import MINILM
from tests.waiting import poll

URL = "/api/v1/embeddings"


@pytest.fixture(autouse=True)
def _seeded(fakes):
    seed_registry(allowed_providers=[], allowed_models=[])


def allow(kind, *patterns):
    for pattern in patterns:
        AllowlistEntry.objects.create(kind=kind, pattern=pattern)
    reader.cache_clear()


def changed(model, **change):
    model.objects.filter(**change.pop("where")).update(**change)
    reader.cache_clear()


PATHS = [
    ("get", "providers-config"),
    ("get", "circuit-breakers"),
    ("post", "circuit-breakers/openai/reset"),
    ("get", "metrics"),
    ("delete", "cache"),
    ("post", "models/warmup"),
    ("post", "models/download"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_admin_endpoints_ask_for_a_key(method, path):
    response = getattr(APIClient(), method)(f"{URL}/{path}")
    assert response.status_code == 401


def test_provider_outside_the_allowlist_is_403(post):
    allow("provider", "onnx")
    response = post({"input": "a", "model": "text-embedding-3-small"})
    assert response.status_code == 403
    assert response.json()["detail"] == "Provider 'openai' is not allowed"
    assert response.json()["error"]["type"] == "permission_error"
    assert post({"input": "a", "model": f"onnx:{MINILM}"}).status_code == 200


def test_model_outside_the_allowlist_is_403(post):
    allow("model", "text-embedding-3-*")
    response = post({"input": "a", "model": f"onnx:{MINILM}"})
    assert response.json()["detail"] == f"Model '{MINILM}' is not allowed"


def test_a_download_by_short_name_is_allowed_as_the_model_it_means(client):
    body = {"model": "huggingface:all-MiniLM-L6-v2"}
    allow("model", "all-MiniLM-*")
    assert client.post(f"{URL}/models/download", body, format="json").status_code == 403
    allow("model", MINILM)
    assert client.post(f"{URL}/models/download", body, format="json").status_code == 200


def test_fallback_never_leaves_the_allowlist(post):
    allow("provider", "openai", "onnx")
    response = post({"input": "a", "model": "text-embedding-3-small"})
    assert response.headers["X-Embeddings-Provider"] == "onnx"
    allow("model", "text-*")
    response = post({"input": "a", "model": "text-embedding-3-small"})
    assert response.json()["error"]["code"] == "model_not_ready"


def prompts(provider, name=MINILM, **change):
    changed(ModelEntry, where={"provider": provider, "name": name}, **change)


def vector(response):
    return response.json()["data"][0]["embedding"]


def test_prompt_from_the_console_changes_vectors_space_and_what_the_cache_answers(
    post, fakes
):
    body = {"input": "a", "model": f"onnx:{MINILM}"}
    plain = post(body)
    prompts("onnx", document_prompt="text: ")
    prompted = post(body)
    expected = post({"input": "text: a", "model": f"huggingface:{MINILM}"})
    assert vector(prompted) == vector(expected) != vector(plain)
    assert prompted.json()["usage"]["prompt_tokens"] == 2
    space = prompted.headers["X-Embeddings-Vector-Space"]
    assert space.startswith(f"{MINILM}#prompt-")
    prompts("onnx", document_prompt=None)
    again = post(body)
    assert vector(again) == vector(plain)
    assert again.headers["X-Embeddings-Vector-Space"] == MINILM
    assert fakes["onnx"].calls == [["a"], ["a"]]  # the third came from the cache


def test_fallback_uses_the_prompt_of_the_model_that_answers(post):
    prompts("huggingface", document_prompt="text: ")
    response = post({"input": "a", "model": "text-embedding-3-small"})
    expected = post({"input": "text: a", "model": f"onnx:{MINILM}"})
    assert response.headers["X-Embeddings-Provider"] == "huggingface"
    assert vector(response) == vector(expected)


def test_model_with_another_prompt_is_of_another_space(post, fakes):
    fakes["huggingface"].fault = ProviderUnavailable("down.")
    body = {"input": "a", "model": f"huggingface:{MINILM}"}
    same_space = {"X-Embeddings-Fallback": "same_space"}
    prompts("onnx", query_prompt="query: ")
    assert post(body, **same_space).status_code == 503
    prompts("huggingface", query_prompt="query: ")
    response = post(body, **same_space)
    assert response.headers["X-Embeddings-Fallback-From"] == "huggingface"


def test_provider_switched_off_in_the_console_is_403(post):
    changed(ProviderSetting, where={"name": "onnx"}, enabled=False)
    response = post({"input": "a", "model": f"onnx:{MINILM}"})
    assert response.status_code == 403


def test_model_switched_off_in_the_console_is_403_and_listed_so(post, client):
    changed(ModelEntry, where={"provider": "onnx", "name": MINILM}, enabled=False)
    assert post({"input": "a", "model": f"onnx:{MINILM}"}).status_code == 403
    listed = client.get(f"{URL}/models").json()["data"]
    assert {
        "provider": "onnx",
        "model": MINILM,
        "allowed": False,
        "default": False,
    } in listed
    ids = [model["id"] for model in client.get("/api/v1/models").json()["data"]]
    assert f"onnx:{MINILM}" not in ids


def test_allowlists_are_shown_with_the_models(client):
    allow("provider", "onnx")
    body = client.get(f"{URL}/models").json()
    assert body["allowed_providers"] == ["onnx"]
    assert body["allowed_models"] is None


def test_default_model_of_the_console_serves_requests_without_one(post, client):
    changed(ModelEntry, where={"provider": "onnx", "name": MINILM}, is_default=True)
    response = post({"texts": ["a"]}, path=f"{URL}/batch")
    assert response.json()["model"] == f"onnx:{MINILM}"
    listed = client.get(f"{URL}/models").json()["data"]
    assert [m["provider"] for m in listed if m["default"]] == ["onnx"]


def test_providers_config_shows_what_is_missing_and_no_key(client, settings):
    body = client.get(f"{URL}/providers-config").json()
    openai = next(p for p in body["providers"] if p["name"] == "openai")
    assert openai["configured"] is False
    assert openai["problem"] == "OPENAI_API_KEY is not set."
    assert {p["name"] for p in body["providers"]} >= {
        "openai",
        "huggingface",
        "onnx",
        "cohere",
        "voyage",
    }
    assert body["fallback_chain"]["openai"] == ["huggingface", "onnx", "local_api"]


def failing(fakes, post, times):
    fakes["openai"].problem = None
    fakes["openai"].fault = ProviderUnavailable("openai is down.")
    for number in range(times):
        post({"input": f"text {number}", "model": "text-embedding-3-small"})


def test_breakers_of_all_providers_are_listed_used_or_not(client, post, fakes):
    failing(fakes, post, 5)
    rows = {
        row["provider"]: row
        for row in client.get(f"{URL}/circuit-breakers").json()["data"]
    }
    assert rows["openai"]["state"] == "open"
    assert rows["openai"]["failure_count"] == 5
    assert rows["openai"]["last_error"] == "openai is down."
    assert rows["openai"]["retry_at"] > rows["openai"]["opened_at"]
    assert rows["mistral"] == {
        "provider": "mistral",
        "state": "closed",
        "failure_count": 0,
        "success_count": 0,
        "opened_at": None,
        "retry_at": None,
        "last_error": None,
    }


def test_open_breaker_keeps_requests_from_the_provider_and_serves_cached_vectors(
    post, fakes
):
    fakes["openai"].problem = None
    body = {"input": "kept", "model": "text-embedding-3-small"}
    post(body)
    failing(fakes, post, 9)
    assert len(fakes["openai"].calls) == 1 + 5
    response = post(body)
    assert response.headers["X-Embeddings-Provider"] == "openai"
    assert "X-Embeddings-Fallback-From" not in response.headers


def test_open_breaker_without_a_fallback_is_503_with_its_time(post, fakes):
    failing(fakes, post, 5)
    body = {"input": "a", "model": "text-embedding-3-small"}
    response = post(body, **{"X-Embeddings-Fallback": "off"})
    assert response.status_code == 503
    assert 50 <= int(response.headers["Retry-After"]) <= 60


def test_breaker_is_reset(client, post, fakes):
    failing(fakes, post, 5)
    body = client.post(f"{URL}/circuit-breakers/OpenAI/reset").json()
    assert (body["status"], body["provider"], body["state"]) == (
        "ok",
        "openai",
        "closed",
    )
    fakes["openai"].fault = None
    response = post({"input": "a", "model": "text-embedding-3-small"})
    assert response.headers["X-Embeddings-Provider"] == "openai"


def test_unknown_breaker_is_404(client):
    assert client.post(f"{URL}/circuit-breakers/acme/reset").status_code == 404


def test_metrics_sum_up(client, post):
    before = client.get(f"{URL}/metrics").json()
    post({"input": ["a", "b"], "model": "text-embedding-3-small"})
    post({"input": ["a"], "model": "text-embedding-3-small"})
    poll(lambda: embedding_cache().stats().size == 2, what="both texts in the store")
    body = client.get(f"{URL}/metrics").json()

    def count(summary, name, **labels):
        rows = summary["counters"][name]
        return sum(row["value"] for row in rows if labels.items() <= row.items())

    def grown(name, **labels):
        return count(body, name, **labels) - count(before, name, **labels)

    pair = {"from_provider": "openai", "to_provider": "huggingface"}
    assert grown("embedding_fallbacks_total", **pair) == 2
    failed = {
        "provider": "openai",
        "model": "text-embedding-3-small",
        "reason": "not_configured",
    }
    assert grown("embedding_provider_failures_total", **failed) == 2
    assert grown("embedding_cache_lookups_total", result="hit") == 1
    assert grown("embedding_cache_lookups_total", result="miss") == 2
    assert body["cache"]["size"] == 2
    assert body["active_requests"] == 0
    latency = next(row for row in body["latency"] if row["provider"] == "huggingface")
    assert latency["count"] >= 2
    assert 0 < latency["p50"] <= latency["p99"]


def test_prometheus_has_the_counters_with_their_labels(client, post):
    post({"input": "a", "model": "text-embedding-3-small"})
    text = APIClient().get("/metrics").content.decode()
    assert (
        'embedding_fallbacks_total{from_provider="openai",to_provider="huggingface"}'
        in text
    )
    assert (
        'embedding_provider_failures_total{model="text-embedding-3-small",provider="openai",reason="not_configured"}'
        in text
    )


def test_names_that_users_pass_on_are_no_labels(client, post):
    post({"input": "a", "model": "local_api:my-private-name"})
    assert "my-private-name" not in APIClient().get("/metrics").content.decode()


def test_admin_actions_are_audited(client, post, fakes):
    failing(fakes, post, 5)
    body = {"model": f"huggingface:{MINILM}"}
    request_id = {"X-Request-ID": "housekeeping"}
    client.post(f"{URL}/circuit-breakers/openai/reset", headers=request_id)
    client.delete(f"{URL}/cache")
    client.post(f"{URL}/models/warmup", body, format="json")
    client.post(f"{URL}/models/download", body, format="json")
    entries = list(AuditEntry.objects.order_by("pk"))
    assert [(entry.action, entry.target) for entry in entries] == [
        ("reset", "circuit breaker openai"),
        ("clear", "embedding cache"),
        ("warm up", f"model huggingface:{MINILM}"),
        ("download", f"model huggingface:{MINILM}"),
    ]
    assert {entry.actor for entry in entries} == {"single_user"}
    assert entries[0].request_id == "housekeeping"
    before, after = entries[0].before, entries[0].after
    assert before is not None
    assert after is not None
    assert before["state"] == "open"
    assert after["state"] == "closed"


def test_refused_admin_actions_are_not_audited(client):
    client.post(f"{URL}/circuit-breakers/acme/reset")
    client.post(f"{URL}/models/warmup", {"model": "onnx:nope"}, format="json")
    assert not AuditEntry.objects.exists()
