"""Models of this machine through the API, by the real engine."""

import json
from pathlib import Path

import pytest

from embeddings.services.health import health_probe
from providers.engine import files
from providers.engine.local_provider import LocalProvider
from providers.registry import registry
from tests.providers.engine import tiny

URL = "/api/v1/embeddings"


@pytest.fixture
def folder(tmp_path):
    return tiny.write_model(tmp_path / "own" / "small")


@pytest.fixture(autouse=True)
def engine(settings, tmp_path, folder, db, vocabulary):
    """A data folder without any model, and one in a folder of the operator."""
    options = {"data_dir": tmp_path / "data", "model_paths": (folder,), "threads": 1}
    settings.PROVIDERS = settings.PROVIDERS | {
        "huggingface": options,
        "onnx": options,
    }
    yield
    provider = registry().get("huggingface")
    assert isinstance(provider, LocalProvider)
    provider.close()


@pytest.fixture
def ask(client):
    def post(path="", **body):
        return client.post(f"{URL}{path}", body, format="json")

    return post


def vectors(answer):
    assert answer.status_code == 200, answer.content
    return [item["embedding"] for item in answer.json()["data"]]


def download(ask):
    answer = ask("/models/download", model="small")
    assert answer.status_code == 200, answer.content
    return answer.json()["path"]


def test_a_model_answers_at_once_after_its_download(ask, client):
    assert client.get(f"{URL}/models/huggingface:small").status_code == 200
    download(ask)
    assert vectors(ask(input="a b", model="huggingface:small"))
    assert vectors(ask(input="a b", model="onnx:small"))


def test_a_folder_that_changed_is_served_in_its_new_state_after_a_download(ask, folder):
    download(ask)
    before = vectors(ask(input="a b", model="huggingface:small"))
    tiny.write_model(folder, seed=1)
    assert vectors(ask(input="a b", model="huggingface:small")) == before
    download(ask)
    assert vectors(ask(input="a b", model="huggingface:small")) != before


def test_a_model_that_fails_its_check_is_never_answered_and_health_says_so(
    ask, client, configure
):
    configure(default_provider="huggingface", default_model="huggingface:small")
    path = Path(download(ask), files.MANIFEST_NAME)
    manifest = json.loads(path.read_text())
    vectors = manifest["proof"]["vectors"]["exact"]
    manifest["proof"]["vectors"]["exact"] = vectors[:1] * len(vectors)
    path.write_text(json.dumps(manifest))
    answer = client.post(
        URL,
        {"input": "a b", "model": "huggingface:small"},
        format="json",
        headers={"X-Embeddings-Fallback": "off"},
    )
    assert answer.status_code >= 400
    assert "cosine" in answer.json()["detail"]
    health_probe.cache_clear()
    health = client.get(f"{URL}/health")
    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    [reason] = health.json()["degraded"]
    assert reason.startswith("onnx:small answers by fallback: ")
    assert "download_model small" in reason
    configure(fallback="off")
    health_probe.cache_clear()
    health = client.get(f"{URL}/health")
    assert (health.status_code, health.json()["status"]) == (503, "degraded")
    assert "download_model small" in health.json()["problem"]
