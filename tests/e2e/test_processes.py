"""Processes: workers that are killed, and stops that leave nothing behind."""

import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import requests

from tests.e2e.server import Server
from tests.waiting import poll

pytestmark = pytest.mark.sqlite_only("which processes live and end")

BACK_SECONDS = 20.0
# A worker that dies takes its connections along; its clients see one of these and nothing else.
CUT_OFF = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


def texts_of(client, number):
    return [f"Load of client {client}, request {number}. " * (1 + client)]


def test_requests_of_the_other_worker_survive_a_killed_one(launch):
    server = launch(WEB_CONCURRENCY="2").wait_until_ready()
    poll(lambda: len(server.workers()) == 2, seconds=BACK_SECONDS, what="two workers")
    answered: dict[tuple[int, int], list[list[float]]] = {}
    cut_off: list[tuple[int, int]] = []
    half_way = threading.Event()

    def run(client):
        for number in range(12):
            try:
                answered[client, number] = server.embed(texts_of(client, number))
            except CUT_OFF:
                cut_off.append((client, number))
            if len(answered) > 30:
                half_way.set()

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(run, client) for client in range(8)]
        assert half_way.wait(60)
        victim = server.workers()[0]
        victim.kill()
        for client in clients:
            client.result()
    # At most what the killed worker held: one request a client.
    assert len(cut_off) <= 8
    assert len(answered) + len(cut_off) == 8 * 12
    poll(
        lambda: len(server.workers()) == 2 and victim not in server.workers(),
        seconds=BACK_SECONDS,
        what="a new worker",
    )
    for asked, vectors in answered.items():
        expected = server.embed(texts_of(*asked))
        assert np.abs(np.array(vectors) - np.array(expected)).max() < 1e-5
    assert 500 not in [line.get("status") for line in server.log_lines()]


def test_only_worker_is_replaced_when_it_is_killed(launch):
    server = launch(WEB_CONCURRENCY="1").wait_until_ready()
    before = server.embed(["the same before and after"])
    (victim,) = server.workers()
    victim.kill()
    victim.wait(BACK_SECONDS)

    def is_back():
        try:
            return requests.get(f"{server.url}/readyz", timeout=30).ok
        except CUT_OFF:
            return False

    poll(is_back, seconds=BACK_SECONDS, what="ready again")
    after = server.embed(["the same before and after"])
    assert np.abs(np.array(after) - np.array(before)).max() < 1e-6
    assert victim.pid not in [worker.pid for worker in server.workers()]


@pytest.fixture(
    scope="module",
    params=[
        (signal.SIGINT, "0"),
        (signal.SIGTERM, "0"),
        (signal.SIGINT, "1"),
        (signal.SIGTERM, "1"),
    ],
    ids=lambda param: f"{param[0].name}-{param[1]}-media-workers",
)
def stopped(request, prepared_weights, migrated, tmp_path_factory):
    """A server of two workers that answered twenty requests and was stopped by an impatient user."""
    number, media_workers = request.param
    server = Server(
        tmp_path_factory.mktemp("stopped"),
        database=migrated,
        WEB_CONCURRENCY="2",
        MEDIA_WORKERS=media_workers,
        EMBEDDINGS_USAGE_FLUSH="600",
    ).wait_until_ready()
    for _ in range(20):
        server.embed(["a text"])
    assert server.stored_requests() == 0
    for _ in range(4):
        os.killpg(server.process.pid, number)
        time.sleep(0.05)
    assert server.stop(number) in (0, -number)
    yield server
    server.end()


def test_signal_ends_every_process(stopped):
    assert stopped.members() == []
    assert "Traceback" not in stopped.output


def test_clean_stop_stores_all_usage(stopped):
    assert stopped.stored_requests() == 20


def test_request_under_way_is_answered_before_the_end(launch):
    server = launch().wait_until_ready()
    texts = [f"{number}: {'work ' * 60}" for number in range(200)]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.embed, texts)
        poll(lambda: is_at_work(server), seconds=30, what="the request under way")
        psutil.Process(server.process.pid).terminate()
        assert len(answer.result()) == 200
    assert server.process.wait(60) == 0


def is_at_work(server):
    return requests.get(f"{server.api}/embeddings/health", timeout=30).json()[
        "active_requests"
    ]


def test_make_serve_ends_with_ctrl_c(launch):
    # -o: the virtual environment that runs this test is taken as it is.
    make = shutil.which("make")
    assert make, "The project's commands need make."
    server = launch(command=(make, "-o", ".venv/.runtime", "serve"), MEDIA_WORKERS="1")
    server.wait_until_ready()
    server.stop(signal.SIGINT)
    assert server.members() == []
