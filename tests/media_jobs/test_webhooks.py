"""Notices to a client's own server: a real one, on this machine."""

import json
import socket
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.utils import timezone

from media_jobs.models import Job
from media_jobs.services import webhooks
from media_jobs.services.webhooks import PAUSES, deliver_due, is_public, signature
from media_jobs.tasks import work

SECRET = "webhook-secret-of-the-tests"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((dict(self.headers), body))
        self.send_response(self.server.answer)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def receiver(media_conf):
    media_conf(webhook_secret=SECRET, webhook_allow_private=True)
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    server.received, server.answer = [], 200
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def finished(create, start, receiver):
    """Return a function that runs a job whose end is to be told."""

    def finish():
        url = f"http://localhost:{receiver.server_port}/hook?x=1"
        start(create()["media_id"], webhook_url=url)
        work()
        return Job.objects.get()

    return finish


def make_due():
    Job.objects.update(webhook_due_at=timezone.now() - timedelta(seconds=1))


def test_end_of_a_job_is_told_once_and_signed(finished, receiver):
    job = finished()
    deliver_due()
    ((headers, body),) = receiver.received
    told = json.loads(body)
    assert told["event"] == "media.job.completed"
    assert (told["job_id"], told["media_id"]) == (job.public_id, job.media_id)
    assert (told["status"], told["chunks"]) == ("completed", 1)
    moment, _, given = headers["X-Embeddings-Signature"].partition(",v1=")
    timestamp = int(moment.removeprefix("t="))
    assert given == signature(body, timestamp=timestamp, secret=SECRET)
    assert headers["Host"].startswith("localhost")


def test_cancelled_job_is_told_too(create, start, client, receiver):
    url = f"http://localhost:{receiver.server_port}/"
    job_id = start(create()["media_id"], webhook_url=url).json()["job_id"]
    client.post(f"/api/v1/media/embeddings/jobs/{job_id}/cancel")
    work()
    assert json.loads(receiver.received[0][1])["event"] == "media.job.cancelled"


@pytest.mark.parametrize("answer", [500, 404, 302])
def test_refused_notice_is_sent_again_later(finished, receiver, answer):
    receiver.answer = answer
    job = finished()
    assert job.webhook_due_at > timezone.now() + timedelta(seconds=PAUSES[0] - 5)
    deliver_due()
    assert len(receiver.received) == 1
    receiver.answer = 200
    make_due()
    deliver_due()
    job.refresh_from_db()
    assert len(receiver.received) == 2
    assert job.webhook_due_at is None


def test_notice_is_given_up_in_the_end(finished, receiver):
    receiver.answer = 500
    finished()
    for _ in PAUSES:
        make_due()
        deliver_due()
    assert Job.objects.get().webhook_due_at is None
    assert len(receiver.received) == len(PAUSES) + 1


def test_private_addresses_are_not_called(finished, receiver, media_conf):
    media_conf(webhook_allow_private=False)
    job = finished()
    assert receiver.received == []
    assert job.status == "completed"
    assert job.webhook_due_at


PUBLIC, PRIVATE = "93.184.215.14", "10.1.2.3"


@pytest.fixture
def names(monkeypatch):
    """A dict: name -> the addresses that its first look-up gives, its second, and so on."""
    names = {}
    real = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        if host not in names:
            return real(host, port, *args, **kwargs)
        found = names[host].pop(0)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return names


@pytest.fixture
def connected(monkeypatch):
    """Refuse every connection, and return the addresses that were tried."""
    tried = []

    def create_connection(address, *args, **kwargs):
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", create_connection)
    return tried


@pytest.mark.parametrize(
    ("addresses", "called"),
    [
        ([PUBLIC], True),
        ([PRIVATE], False),
        ([PUBLIC, PRIVATE], False),
        ([PRIVATE, PUBLIC], False),
    ],
)
def test_name_is_called_only_if_all_its_addresses_are_public(
    create, start, media_conf, names, connected, addresses, called
):
    media_conf(webhook_secret=SECRET, webhook_allow_private=False)
    names["hooks.example"] = [addresses]
    start(create()["media_id"], webhook_url="http://hooks.example/")
    work()
    assert connected == ([(PUBLIC, 80)] if called else [])
    assert Job.objects.get().webhook_due_at


def test_name_is_looked_up_once_so_that_no_second_answer_leads_elsewhere(
    create, start, receiver, names
):
    names["hooks.example"] = [["127.0.0.1"]]  # a second look-up would find nothing
    url = f"http://hooks.example:{receiver.server_port}/"
    start(create()["media_id"], webhook_url=url)
    work()
    ((headers, _),) = receiver.received
    assert headers["Host"] == f"hooks.example:{receiver.server_port}"
    assert names["hooks.example"] == []
    assert Job.objects.get().webhook_due_at is None


class DrippingReceiver(BaseHTTPRequestHandler):
    """Answer well, one byte at a time, each before the time-out of a read."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":
            if self.server.closing.wait(TIMEOUT_SECONDS / 8):
                return
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                self.server.cut_off.set()
                return

    def log_message(self, *args):
        pass


TIMEOUT_SECONDS = (
    0.4  # the drip takes 1.9 s, and twice the time-out is given to the whole
)


@pytest.fixture
def dripping(media_conf, monkeypatch):
    media_conf(webhook_secret=SECRET, webhook_allow_private=True)
    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    server = HTTPServer(("127.0.0.1", 0), DrippingReceiver)
    server.closing, server.cut_off = threading.Event(), threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_answer_that_drips_is_cut_off(create, start, dripping):
    url = f"http://localhost:{dripping.server_port}/"
    start(create()["media_id"], webhook_url=url)
    work()
    assert Job.objects.get().webhook_due_at  # not delivered, and due again
    assert dripping.cut_off.wait(5)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "2002:0a00:0001::",
        "64:ff9b::a00:1",
    ],
)
def test_address_is_private(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111"])
def test_address_is_public(address):
    assert is_public(address)
