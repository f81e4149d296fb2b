"""Fixtures for all tests."""

import pytest
from rest_framework.test import APIClient

from embeddings.services.embed import embedding_cache
from embeddings.services.health import HealthProbe
from providers import registry as registry_module

KEY = "test-key-0123456789abcdef"


@pytest.fixture(autouse=True)
def fresh_process(settings):
    """Start each test like a new process: a known key, an empty cache, newly built providers."""
    settings.EMBEDDINGS = replace_conf(settings, single_user_api_key=KEY)
    registry_module.registry.cache_clear()
    embedding_cache.cache_clear()
    yield
    registry_module.registry.cache_clear()
    embedding_cache.cache_clear()


def replace_conf(settings, **changes):
    from dataclasses import replace

    return replace(settings.EMBEDDINGS, **changes)


@pytest.fixture
def configure(settings):
    """Return a function that changes fields of the app's settings for this test."""

    def change(**changes):
        settings.EMBEDDINGS = replace_conf(settings, **changes)

    return change


@pytest.fixture
def fakes(monkeypatch):
    """Put fake providers in place of the built-in ones and return them by name."""
    for name, fake in (
        ("openai", "FakeOpenAI"),
        ("huggingface", "FakeHuggingFace"),
        ("onnx", "FakeOnnx"),
    ):
        monkeypatch.setitem(registry_module.BUILT_IN, name, f"tests.fakes:{fake}")
    monkeypatch.setattr("embeddings.services.health.probe", HealthProbe())
    registry = registry_module.registry()
    return {name: registry.get(name) for name in ("openai", "huggingface", "onnx")}


@pytest.fixture
def client():
    """A client that sends the right key."""
    return APIClient(headers={"X-API-KEY": KEY})


@pytest.fixture
def post(client, fakes):
    """Return a function that posts a JSON body to the embeddings endpoint."""

    def send(body, path="/api/v1/embeddings", **headers):
        return client.post(path, body, format="json", headers=headers)

    return send
