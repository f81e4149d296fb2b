"""The numbers themselves, over HTTP: right, each caller's own, and within bounds of memory."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests

from tests.e2e.server import MODEL
from tests.e2e.texts import natural_texts, varied_texts
from tests.environment import DATA_DIR
from tests.waiting import poll

pytestmark = pytest.mark.sqlite_only("the models")

# In a process of its own, so that torch's memory and threads are not the tests'.
REFERENCE = """
import json, sys
from sentence_transformers import SentenceTransformer
given = json.load(sys.stdin)
model = SentenceTransformer(given["folder"], device="cpu")
vectors = model.encode(given["texts"], batch_size=64, show_progress_bar=False)
json.dump(vectors.tolist(), sys.stdout)
"""
MODEL_FOLDER = DATA_DIR / "prepared" / "sentence-transformers--all-MiniLM-L6-v2"
CLIENTS, REQUESTS_EACH = 32, 5
MEMORY_LIMIT_BYTES = 700 * 10**6
RESTING_LIMIT_BYTES = 450 * 10**6


def test_500_texts_are_within_0_9999_of_sentence_transformers(server):
    texts = varied_texts(500)
    finished = subprocess.run(
        [sys.executable, "-c", REFERENCE],
        input=json.dumps({"folder": str(MODEL_FOLDER), "texts": texts}),
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    expected = np.array(json.loads(finished.stdout))
    answer = server.post(
        {"input": texts, "model": MODEL}, **{"X-Embeddings-Truncate": "end"}
    )
    found = np.array([item["embedding"] for item in answer.json()["data"]])
    cosines = (found * expected).sum(1) / np.linalg.norm(expected, axis=1)
    assert cosines.shape == (500,)
    assert cosines.min() >= 0.9999, texts[int(cosines.argmin())]


def test_concurrent_clients_get_their_own_vectors(server):
    def texts_of(client, number):
        return [
            f"Client {client}, request {number}, text {text}: {'word ' * (client % 7)}"
            for text in range(1 + client % 4)
        ]

    def run(client):
        with requests.Session() as session:
            return [
                server.embed(texts_of(client, number), session=session)
                for number in range(REQUESTS_EACH)
            ]

    with ThreadPoolExecutor(CLIENTS) as pool:
        found = list(pool.map(run, range(CLIENTS)))
    # Computed again, all in one request of one client: an answer that went astray would differ.
    assert requests.delete(
        f"{server.api}/embeddings/cache", headers=server.headers, timeout=60
    ).ok
    everything = [
        (texts_of(client, number), found[client][number])
        for client in range(CLIENTS)
        for number in range(REQUESTS_EACH)
    ]
    expected = np.array(
        server.embed([text for texts, _ in everything for text in texts])
    )
    answered = np.array([vector for _, vectors in everything for vector in vectors])
    assert answered.shape == expected.shape
    assert np.abs(answered - expected).max() < 1e-5


def test_2048_texts_in_one_request_take_less_than_700_mb(launch):
    server = launch().wait_until_ready()
    samples = [server.resident_bytes()]
    done = threading.Event()

    def watch():
        while not done.wait(0.25):
            samples.append(server.resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answer = server.post({"input": natural_texts(2048), "model": MODEL})
    finally:
        done.set()
        watcher.join()
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"]) == 2048
    assert answer.json()["usage"]["prompt_tokens"] > 2048 * 60
    assert len(samples) > 3
    assert max(samples) < MEMORY_LIMIT_BYTES, f"{max(samples) / 1e6:.0f} MB"


def test_the_whole_server_rests_in_450_mb_after_bulk_for_both_classes(launch):
    server = launch(MEDIA_WORKERS="1").wait_until_ready()
    texts = natural_texts(512)
    for model in (MODEL, MODEL.replace("huggingface:", "onnx:")):
        with ThreadPoolExecutor(8) as pool:
            requests_of_64 = [texts[at : at + 64] for at in range(0, 512, 64)]
            answers = pool.map(
                lambda part, model=model: server.post({"input": part, "model": model}),
                requests_of_64,
            )
            assert [answer.status_code for answer in answers] == [200] * 8
    poll(
        lambda: server.resident_bytes() < RESTING_LIMIT_BYTES,
        seconds=20,
        what=f"less than {RESTING_LIMIT_BYTES / 1e6:.0f} MB",
    )


def test_the_work_of_a_client_that_hangs_up_is_dropped(server):
    texts = [f"{number}: {'left behind ' * 60}" for number in range(1500)]
    connection = server.connect()
    body = json.dumps({"input": texts, "model": MODEL})
    headers = {
        **server.headers,
        "Content-Type": "application/json",
        "X-Request-ID": "hangs-up",
    }
    connection.request("POST", "/api/v1/embeddings", body, headers)
    poll(lambda: active_requests(server), seconds=30, what="the request under way")
    connection.close()
    line = poll(
        lambda: [
            line
            for line in server.log_lines()
            if line.get("request_id") == "hangs-up" and "status" in line
        ],
        seconds=30,
        what="the request dropped",
    )[-1]
    assert line["status"] == 499
    assert len(server.embed(["somebody else's text"])) == 1


def active_requests(server):
    health = requests.get(f"{server.api}/embeddings/health", timeout=30)
    return health.json()["active_requests"]
