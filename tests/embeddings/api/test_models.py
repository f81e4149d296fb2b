from pathlib import Path

import pytest

from providers.exceptions import ProviderMisconfigured, ProviderUnavailable
from tests.fakes import MINILM

URL = "/api/v1/embeddings/models"


@pytest.fixture(autouse=True)
def _fakes(fakes):
    pass


def test_models_are_listed_with_the_default_marked_once(client):
    body = client.get(URL).json()
    assert body["allowed_providers"] is None
    assert body["allowed_models"] is None
    assert body["data"][0] == {
        "provider": "openai",
        "model": "text-embedding-3-small",
        "allowed": True,
        "default": True,
    }
    assert sum(model["default"] for model in body["data"]) == 1
    assert ("onnx", MINILM) in {(m["provider"], m["model"]) for m in body["data"]}


@pytest.mark.parametrize("model_id", [f"onnx:{MINILM}", f"onnx:{MINILM}/"])
def test_model_is_described_by_an_id_with_slashes(client, model_id):
    assert client.get(f"{URL}/{model_id}").json() == {
        "provider": "onnx",
        "model": MINILM,
        "dimensions": 8,
        "max_tokens": 10,
        "allowed": True,
        "default": False,
        "loaded": False,
        "downloaded": True,
        "vector_space": MINILM,
        "native_dimensions": None,
        "runtime": "graph",
        "device": "cpu",
        "verified": "self",
        "precision": "exact",
        "method": "fp32",
        "prompts": {"query": "", "document": ""},
        "recommended_prompts": None,
        "card": None,
        "drifted": False,
        "memory_bytes": None,
        "needs_torch": None,
        "problem": None,
        "action": None,
    }


def test_precision_that_will_really_be_used_and_the_prompts_are_shown(client):
    fast = client.get(f"{URL}/onnx:only-onnx").json()
    assert (fast["precision"], fast["method"]) == ("fast", "int8-static")
    prompted = client.get(f"{URL}/onnx:prompted").json()
    assert prompted["prompts"] == {
        "query": "search for: ",
        "document": "text of a passage: ",
    }


def test_what_its_makers_say_of_a_model_is_shown_with_prompts_it_does_not_use(client):
    shown = client.get(f"{URL}/onnx:only-onnx").json()
    assert shown["recommended_prompts"] == {"query": "ask: ", "document": ""}
    assert shown["card"] == {
        "parameters": 1000,
        "licence": "mit",
        "languages": "en",
        "pooling": "mean",
        "gated": True,
        "matryoshka": [4, 8],
        "prompts": {"query": "ask: ", "document": ""},
        "download_bytes": 4000,
        "disk_bytes": 9000,
        "memory_bytes": 4000,
    }


def test_model_that_cannot_be_served_says_why(client, fakes):
    fakes["onnx"].problem = "It needs torch: install embeddings-server[torch]."
    body = client.get(f"{URL}/onnx:{MINILM}").json()
    assert body["problem"] == "It needs torch: install embeddings-server[torch]."


def test_remote_model_says_what_its_provider_lacks_and_nothing_of_a_runtime(client):
    body = client.get(f"{URL}/text-embedding-3-small").json()
    assert body["problem"] == "OPENAI_API_KEY is not set."
    unknown = ("runtime", "device", "verified", "precision", "method")
    assert [body[name] for name in unknown] == [None] * 5


def test_native_dimensions_are_shown_as_a_range(client):
    body = client.get(f"{URL}/text-embedding-3-small").json()
    assert body["native_dimensions"] == {"minimum": 1, "maximum": 16}
    assert body["loaded"] is None


def test_unknown_model_is_404(client):
    response = client.get(f"{URL}/nope")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


def test_warm_up_loads_the_model(client):
    body = {"model": MINILM, "provider": "onnx"}
    answer = client.post(f"{URL}/warmup", body, format="json").json()
    assert answer.pop("seconds") >= 0
    assert answer == {
        "status": "ok",
        "provider": "onnx",
        "model": MINILM,
        "warmed": True,
    }
    assert client.get(f"{URL}/onnx:{MINILM}").json()["loaded"] is True


def test_warm_up_that_fails_says_why(client, fakes):
    fakes["onnx"].fault = ProviderUnavailable("The weights are damaged.")
    body = {"model": f"onnx:{MINILM}"}
    response = client.post(f"{URL}/warmup", body, format="json")
    assert response.status_code == 502
    assert response.json()["detail"] == "The weights are damaged."


@pytest.mark.parametrize("action", ["warmup", "download"])
def test_what_can_never_run_here_is_409_with_the_remedy(
    client, fakes, monkeypatch, action
):
    def refuse(*args, **options):
        raise ProviderMisconfigured("It needs torch: install embeddings-server[torch].")

    monkeypatch.setattr(fakes["onnx"], "warm_up", refuse)
    monkeypatch.setattr(fakes["onnx"], "download", refuse)
    body = {"model": f"onnx:{MINILM}"}
    response = client.post(f"{URL}/{action}", body, format="json")
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "model_not_ready"
    assert "embeddings-server[torch]" in response.json()["detail"]


def test_download_tells_where_the_files_are(client):
    response = client.post(f"{URL}/download", {"model": MINILM}, format="json")
    assert response.json() == {
        "status": "ok",
        "provider": "huggingface",
        "model": MINILM,
        "downloaded": True,
        "path": str(Path("/models/minilm")),
        "bytes": 123,
    }


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "nobody/nothing"}, 404),
        ({"model": "text-embedding-3-small", "provider": "openai"}, 400),
        ({"model": "m", "provider": "acme"}, 400),
        ({}, 400),
    ],
)
def test_downloads_that_cannot_be_are_refused(client, body, status):
    response = client.post(f"{URL}/download", body, format="json")
    assert response.status_code == status


def test_openai_s_list_and_retrieve(client):
    listed = client.get("/api/v1/models").json()
    ids = [model["id"] for model in listed["data"]]
    assert listed["object"] == "list"
    assert ids[0] == "text-embedding-3-small"
    assert f"onnx:{MINILM}" in ids
    one = client.get(f"/api/v1/models/onnx:{MINILM}").json()
    assert one == {
        "id": f"onnx:{MINILM}",
        "object": "model",
        "created": 0,
        "owned_by": "onnx",
    }
