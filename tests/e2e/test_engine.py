"""The engine process beside the web processes: killed, stopped where it is, and left out."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests

from tests.e2e.server import Server
from tests.waiting import poll

pytestmark = pytest.mark.sqlite_only("the process that runs the models")

BACK_SECONDS = 60.0


@pytest.fixture(scope="module")
def server(prepared_weights, migrated, tmp_path_factory):
    """A server of this file's own, whose engine its tests kill; each leaves it with one that serves."""
    folder = tmp_path_factory.mktemp("engine")
    running = Server(folder, database=migrated, WEB_CONCURRENCY="2")
    yield running.wait_until_ready()
    running.end()


def texts_of(client, number):
    return [f"Load of client {client}, request {number}. " * (1 + client)]


def load(server, fault, *, clients=6, seconds=8.0):
    """Embed from several clients while `fault` runs; return what each request gave: vectors, or the answer."""
    answers: dict[tuple[int, int], list[list[float]] | requests.Response] = {}
    over = threading.Event()

    def run(client):
        number = 0
        while not over.is_set():
            body = {"input": texts_of(client, number), "model": "onnx:all-MiniLM-L6-v2"}
            answer = server.post(body, **{"X-Embeddings-Fallback": "off"})
            answers[client, number] = (
                [item["embedding"] for item in answer.json()["data"]]
                if answer.ok
                else answer
            )
            number += 1

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(run, client) for client in range(clients)]
        try:
            fault(until=time.monotonic() + seconds)
        finally:
            over.set()
        for one in running:
            one.result()
    return answers


def check(server, answers):
    """No wrong vector, and no error but 503 that says when to come back."""
    refused = [one for one in answers.values() if isinstance(one, requests.Response)]
    assert {one.status_code for one in refused} <= {503}
    assert all(int(one.headers["Retry-After"]) >= 1 for one in refused)
    served = {key: one for key, one in answers.items() if isinstance(one, list)}
    assert len(served) > len(refused)
    for key in list(served)[:: max(1, len(served) // 40)]:
        body = {"input": texts_of(*key), "model": "onnx:all-MiniLM-L6-v2"}
        expected = server.post(body).json()["data"][0]["embedding"]
        assert np.abs(np.array(served[key][0]) - np.array(expected)).max() < 1e-5


def test_a_killed_engine_is_replaced_and_costs_no_wrong_vector(server):
    server.embed(["loaded by now"])
    killed = []

    def kill(*, until):
        while time.monotonic() < until:
            engine = poll(server.engine, seconds=BACK_SECONDS, what="an engine")
            killed.append(engine.pid)
            engine.kill()
            time.sleep(2.0)

    check(server, load(server, kill))
    assert len(set(killed)) > 1
    died = [line for line in server.log_lines() if line.get("event") == "engine_died"]
    assert {line["pid"] for line in died} >= set(killed[:-1])


def test_an_engine_that_is_stopped_where_it_is_is_replaced(server):
    before = server.embed(["the same before and after"])
    stopped = server.engine()

    def stop(*, until):
        stopped.suspend()
        poll(
            lambda: (found := server.engine()) is not None and found != stopped,
            seconds=BACK_SECONDS,
            what="another engine",
        )

    check(server, load(server, stop))
    after = server.embed(["the same before and after"])
    assert np.abs(np.array(after) - np.array(before)).max() < 1e-6
    events = [line.get("event") for line in server.log_lines()]
    assert "engine_silent" in events


def test_web_processes_hold_no_model(server):
    server.embed(["loaded by now"])
    mapped = [
        region.path
        for worker in server.workers()
        for region in worker.memory_maps(grouped=True)
    ]
    assert mapped
    assert [path for path in mapped if "onnxruntime" in path] == []


def test_figures_of_the_engine_are_those_of_the_server(server):
    server.embed(["one", "two"])
    figures = server.get("/metrics").text
    assert "embedding_engine_batch_fill" in figures
    assert 'embedding_stage_seconds_count{provider="local",stage="infer"}' in figures


def test_inline_runs_models_in_the_web_process(launch):
    server = launch(EMBEDDINGS_ENGINE="inline").wait_until_ready()
    assert len(server.embed(["one"])[0]) == 384
    assert server.engine() is None
    assert len(server.workers()) == 1
    assert not (server.data_dir / "engine.socket").exists()


def test_a_stopped_server_leaves_no_socket(launch):
    server = launch().wait_until_ready()
    server.embed(["one"])
    record = server.data_dir / "engine.socket"
    folder = record.read_text().rpartition("/")[0]
    assert folder
    server.stop()
    assert not record.exists()
    assert server.members() == []
    assert not Path(folder).exists()
