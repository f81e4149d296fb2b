"""Notices of a running server: what a receiver that hangs costs others, and what a killed sender costs."""

import contextlib
import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest
import requests

from tests.e2e.server import is_called
from tests.servers import serving
from tests.waiting import poll

MODEL = "onnx:sentence-transformers/all-MiniLM-L6-v2"


class Receiver(BaseHTTPRequestHandler):
    server: "ReceiverServer"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body)["job_id"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


class ReceiverServer(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Receiver)
        self.received = []


@pytest.fixture
def receiver():
    with serving(ReceiverServer()) as server:
        yield server


@pytest.fixture
def tarpit():
    """A port that lets connections wait for ever."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as port:
        yield port.getsockname()[1]


@pytest.fixture
def server(launch):
    return launch(
        MEDIA_WORKERS="1", MEDIA_WEBHOOK_ALLOW_PRIVATE="true"
    ).wait_until_ready()


def start(server, text, **body):
    media = server.post({"title": "t", "content": text}, path="/media").json()
    body = {"embedding_model": MODEL, **body}
    path = f"/media/{media['media_id']}/embeddings"
    return server.post(body, path=path).json()["job_id"]


def shown(server, job_id):
    return server.get(f"/api/v1/media/embeddings/jobs/{job_id}").json()


def sender_of(server):
    named = (p for p in server.members() if is_called("embeddings: webhooks", p))
    return next(named, None)


def test_receiver_that_hangs_delays_no_job_and_no_other_notice(
    server, receiver, tarpit
):
    slow = [
        start(server, f"slow {n}", webhook_url=f"http://127.0.0.1:{tarpit}/")
        for n in range(4)
    ]
    url = f"http://localhost:{receiver.server_port}/"
    quick = start(server, "quick", webhook_url=url)
    poll(lambda: quick in receiver.received, what="the quick notice")
    # Each try at the tarpit takes ten seconds: all jobs are done before two of them have ended.
    assert {shown(server, job)["status"] for job in slow} == {"completed"}
    notices = [shown(server, job)["webhook"] for job in slow]
    assert "delivered" not in {notice["status"] for notice in notices}
    assert sum(notice["attempts"] for notice in notices) <= 2
    notice = poll(
        lambda: shown(server, quick)["webhook"]["status"] == "delivered",
        what="the notice noted",
    )
    assert notice


def test_sender_that_is_killed_is_started_again_and_loses_no_notice(server, receiver):
    sender = poll(lambda: sender_of(server), what="a process that sends")
    sender.kill()
    url = f"http://localhost:{receiver.server_port}/"
    job = start(server, "sent in the end", webhook_url=url)
    poll(lambda: job in receiver.received, seconds=30, what="the notice")
    assert sender_of(server).pid != sender.pid
    server.stop()
    assert psutil.wait_procs([sender], 5)[1] == []
    with pytest.raises(requests.ConnectionError):
        server.get("/healthz")
    assert server.members() == []
