"""A key's scopes narrow the server's allowlists, for what is asked and for fallbacks."""

import pytest
from rest_framework.test import APIClient

from providers.models import AllowlistEntry
from providers.operator_settings import reader
from providers.seeding import seed_registry
from tests.embeddings.multi_user import bearer, refused
from tests.fakes import MINILM

URL = "/api/v1/embeddings"
SMALL = "text-embedding-3-small"


@pytest.fixture
def post_with(ada, key_of):
    """Return a function that embeds one text with a key of these scopes."""

    def send(model, *, path=URL, body=None, fallback="any", **scopes):
        client = APIClient(headers=bearer(key_of(ada, **scopes)))
        body = body or {"input": "a", "model": model}
        headers = {"X-Embeddings-Fallback": fallback}
        return client.post(path, body, format="json", headers=headers)

    return send


def test_provider_outside_the_scope_is_403(post_with):
    response = post_with(f"onnx:{MINILM}", allowed_providers=["huggingface"])
    assert refused(response, 403) == "Provider 'onnx' is not allowed"
    assert response.json()["error"]["param"] == "provider"


def test_model_outside_the_scope_is_403(post_with):
    response = post_with(f"onnx:{MINILM}", allowed_models=["text-embedding-3-*"])
    assert refused(response, 403) == f"Model '{MINILM}' is not allowed"


@pytest.mark.parametrize("pattern", [MINILM, f"onnx:{MINILM}", "onnx:*", "sent*", "*"])
def test_scopes_follow_the_rules_of_the_allowlist(post_with, pattern):
    response = post_with(f"onnx:{MINILM}", allowed_models=[pattern])
    assert response.status_code == 200


def test_provider_scopes_are_case_insensitive(post_with):
    assert post_with(f"ONNX:{MINILM}", allowed_providers=["Onnx"]).status_code == 200


def test_fallback_stays_in_the_scope(post_with):
    response = post_with(SMALL, allowed_providers=["openai", "onnx"])
    assert response.headers["X-Embeddings-Provider"] == "onnx"
    response = post_with(SMALL, allowed_providers=["openai"])
    assert response.json()["error"]["code"] == "model_not_ready"
    response = post_with(SMALL, allowed_models=["text-embedding-*"])
    assert response.json()["error"]["code"] == "model_not_ready"


def test_scope_never_widens_the_allowlist(post_with):
    seed_registry(allowed_providers=["huggingface"], allowed_models=[])
    reader.cache_clear()
    response = post_with(f"onnx:{MINILM}", allowed_providers=["onnx", "*"])
    assert refused(response, 403) == "Provider 'onnx' is not allowed"
    AllowlistEntry.objects.create(kind="provider", pattern="onnx")
    reader.cache_clear()
    assert post_with(f"onnx:{MINILM}", allowed_providers=["onnx"]).status_code == 200


def test_batch_endpoint_and_its_default_model_keep_the_scope(post_with):
    response = post_with(
        None, path=f"{URL}/batch", body={"texts": ["a"]}, allowed_providers=["onnx"]
    )
    assert refused(response, 403) == "Provider 'openai' is not allowed"


def test_cached_vectors_are_no_way_around_the_scope(post_with):
    assert post_with(f"onnx:{MINILM}").status_code == 200
    response = post_with(f"onnx:{MINILM}", allowed_providers=["huggingface"])
    assert response.status_code == 403


def test_lists_mark_what_the_caller_may_use(ada, key_of):
    client = APIClient(headers=bearer(key_of(ada, allowed_models=["only-onnx"])))
    listed = client.get(f"{URL}/models").json()["data"]
    assert [m["model"] for m in listed if m["allowed"]] == ["only-onnx"]
    openai_list = client.get("/api/v1/models").json()["data"]
    assert [model["id"] for model in openai_list] == ["onnx:only-onnx"]
    assert client.get(f"{URL}/models/onnx:{MINILM}").json()["allowed"] is False


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "providers-config"),
        ("get", "circuit-breakers"),
        ("post", "circuit-breakers/openai/reset"),
        ("get", "metrics"),
        ("delete", "cache"),
        ("post", "models/warmup"),
        ("post", "models/download"),
    ],
)
def test_admin_endpoints_refuse_users_and_serve_admins(
    client_of, ada, admin, method, path
):
    body = {"model": f"huggingface:{MINILM}"} if "models/" in path else None
    detail = refused(
        getattr(client_of(ada), method)(f"{URL}/{path}", body, format="json"), 403
    )
    assert detail.startswith("This is for admins with the permission ")
    response = getattr(client_of(admin), method)(f"{URL}/{path}", body, format="json")
    assert response.status_code == 200


def test_users_may_look_at_models_and_anyone_at_health(client_of, ada):
    assert client_of(ada).get(f"{URL}/models/{SMALL}").status_code == 200
    assert APIClient().get(f"{URL}/health").status_code == 200
