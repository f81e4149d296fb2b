"""Real servers as upstreams: this product itself, and Infinity, both through `local_api`."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import requests

from providers.engine.pins import DEFAULT_MODEL
from providers.engine.weights import Weights
from tests.e2e.server import REPOSITORY, Server, free_port
from tests.environment import DATA_DIR
from tests.waiting import poll

pytestmark = pytest.mark.sqlite_only("what other servers answer")

TEXTS = [
    "a cat sat on the mat",
    "Die Katze saß auf der Matte.",
    "SELECT * FROM cats;",
    "🐈",
] * 10


@pytest.fixture(scope="module")
def infinity(prepared_weights, tmp_path_factory):
    """Infinity serving the same weights; installed by .ci/tools."""
    port = free_port()
    folder = tmp_path_factory.mktemp("infinity")
    command: list[str | Path] = [
        REPOSITORY / ".tools" / "infinity" / "bin" / "infinity_emb",
        *("v2", "--model-id", model_folder(), "--served-model-name", "minilm"),
        *(
            "--engine",
            "torch",
            "--device",
            "cpu",
            "--dtype",
            "float32",
            "--no-bettertransformer",
        ),
        *(
            "--no-model-warmup",
            "--url-prefix",
            "/v1",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ),
    ]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def ready():
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        try:
            return requests.get(f"http://127.0.0.1:{port}/v1/models", timeout=5).ok
        except requests.ConnectionError:
            return False

    try:
        poll(ready, seconds=120, what="Infinity ready")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def model_folder() -> Path:
    prepared = Weights(DATA_DIR).find(DEFAULT_MODEL)
    assert prepared is not None
    return prepared.path


def gateway_vectors(launch, model, **environment):
    gateway = launch(**environment).wait_until_ready()
    response = gateway.post({"input": TEXTS, "model": f"local_api:{model}"})
    assert response.status_code == 200, response.text
    assert response.headers["X-Embeddings-Provider"] == "local_api"
    return np.array([item["embedding"] for item in response.json()["data"]])


def test_this_product_serves_as_an_upstream_of_itself(
    launch, open_handed_server: Server
):
    vectors = gateway_vectors(
        launch,
        "huggingface:sentence-transformers/all-MiniLM-L6-v2",
        LOCAL_API_URL=open_handed_server.api,
        LOCAL_API_KEY=open_handed_server.key,
    )
    np.testing.assert_allclose(vectors, open_handed_server.embed(TEXTS), atol=1e-6)


def test_infinity_serves_as_an_upstream(launch, infinity, server: Server):
    vectors = gateway_vectors(launch, "minilm", LOCAL_API_URL=infinity)
    cosines = np.sum(vectors * np.array(server.embed(TEXTS)), axis=1)
    assert cosines.min() >= 0.9999
