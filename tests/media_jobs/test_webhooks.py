"""Notices to a client's own server: a real one, on this machine."""

import base64
import json
import socket
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.utils import timezone

from media_jobs.models import Job
from media_jobs.services import webhooks
from media_jobs.services.webhook_addresses import is_public
from media_jobs.services.webhooks import PAUSES, deliver, signature, take_due
from media_jobs.tasks import work
from tests.media_jobs.standard_webhooks import verified
from tests.servers import serving

SECRET = "webhook-secret-of-the-tests"


class Receiver(BaseHTTPRequestHandler):
    server: "ReceiverServer"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((dict(self.headers), body))
        self.send_response(self.server.answer)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *args):
        pass


class ReceiverServer(HTTPServer):
    """Note what arrives, and answer with the status that a test sets."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Receiver)
        self.received, self.answer = [], 200


@pytest.fixture
def receiver(media_conf):
    media_conf(webhook_secret=SECRET, webhook_allow_private=True)
    with serving(ReceiverServer()) as server:
        yield server


@pytest.fixture
def finished(create, start, receiver):
    """Return a function that runs a job whose end is to be notified."""

    def finish():
        url = f"http://localhost:{receiver.server_port}/hook?x=1"
        start(create()["media_id"], webhook_url=url)
        work()
        send_due()
        return Job.objects.get()

    return finish


def send_due():
    for job in take_due(16):
        deliver(job)


def make_due():
    Job.objects.update(webhook_due_at=timezone.now() - timedelta(seconds=1))


def test_end_of_a_job_is_notified_once_and_signed(finished, receiver):
    job = finished()
    send_due()
    ((headers, body),) = receiver.received
    headers = {name.lower(): value for name, value in headers.items()}
    notice = json.loads(body)
    assert notice["event"] == "media.job.completed"
    assert (notice["job_id"], notice["media_id"]) == (job.public_id, job.media_id)
    assert (notice["status"], notice["chunks"]) == ("completed", 1)
    moment, _, given = headers["x-embeddings-signature"].partition(",v1=")
    timestamp = int(moment.removeprefix("t="))
    assert given == signature(body, timestamp=timestamp, secret=SECRET)
    assert headers["host"].startswith("localhost")


def test_cancelled_job_is_notified_too(create, start, client, receiver):
    url = f"http://localhost:{receiver.server_port}/"
    job_id = start(create()["media_id"], webhook_url=url).json()["job_id"]
    client.post(f"/api/v1/media/embeddings/jobs/{job_id}/cancel")
    send_due()
    assert json.loads(receiver.received[0][1])["event"] == "media.job.cancelled"


@pytest.mark.parametrize("answer", [500, 404, 302])
def test_refused_notice_is_sent_again_later(finished, receiver, answer):
    receiver.answer = answer
    job = finished()
    assert job.webhook_due_at > timezone.now() + timedelta(seconds=PAUSES[0] - 5)
    send_due()
    assert len(receiver.received) == 1
    receiver.answer = 200
    make_due()
    send_due()
    job.refresh_from_db()
    assert len(receiver.received) == 2
    assert job.webhook_due_at is None


def test_notice_is_given_up_in_the_end(finished, receiver):
    receiver.answer = 500
    finished()
    for _ in PAUSES:
        make_due()
        send_due()
    assert Job.objects.get().webhook_due_at is None
    assert len(receiver.received) == len(PAUSES) + 1


def test_private_addresses_are_not_called(finished, receiver, media_conf):
    media_conf(webhook_allow_private=False)
    job = finished()
    assert receiver.received == []
    assert job.status == "completed"
    assert job.webhook_due_at


WHSEC = "whsec_" + base64.b64encode(b"a key of the tests, 32 bytes lon").decode()


@pytest.mark.parametrize(
    ("secret", "shared"),
    [
        (WHSEC, WHSEC),
        # Of a secret in plain text a receiver's library gets the base64.
        (SECRET, base64.b64encode(SECRET.encode()).decode()),
    ],
)
def test_receiver_of_standard_webhooks_accepts_every_try_as_one_message(
    finished, receiver, media_conf, secret, shared
):
    media_conf(webhook_secret=secret)
    receiver.answer = 500
    finished()
    make_due()
    send_due()
    ids = set()
    for headers, body in receiver.received:
        low = {name.lower(): value for name, value in headers.items()}
        ids.add(verified(low, body, secret=shared, now=timezone.now().timestamp()))
        assert json.loads(body)["type"] == "media.job.completed"
    assert len(receiver.received) == 2
    assert len(ids) == 1


def test_receiver_that_is_gone_for_good_is_not_asked_again(finished, receiver, job_of):
    receiver.answer = 410
    job = finished()
    assert job.webhook_due_at is None
    notice = job_of(job.public_id)["webhook"]
    assert (notice["status"], notice["attempts"]) == ("failed", 1)
    assert "410" in notice["error"]


def test_job_shows_what_became_of_its_notice(finished, receiver, job_of, create, start):
    receiver.answer = 503
    job = finished()
    notice = job_of(job.public_id)["webhook"]
    assert (notice["status"], notice["attempts"]) == ("pending", 1)
    assert notice["next_attempt_at"]
    assert "503" in notice["error"]
    receiver.answer = 200
    make_due()
    send_due()
    assert job_of(job.public_id)["webhook"] == {
        "status": "delivered",
        "attempts": 2,
        "next_attempt_at": None,
        "error": None,
    }
    other = start(create("other")["media_id"]).json()["job_id"]
    assert job_of(other)["webhook"] is None


def test_clock_set_back_does_not_put_a_notice_off(finished, receiver, monkeypatch):
    """What is due later than any pause allows was put off before the clock was set back."""
    receiver.answer = 500
    finished()
    receiver.answer = 200
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now - timedelta(hours=1))
    send_due()
    assert len(receiver.received) == 2
    assert Job.objects.get().webhook_due_at is None


def test_clock_set_forward_sends_each_notice_once(finished, receiver, monkeypatch):
    finished()
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now + timedelta(hours=1))
    send_due()
    assert len(receiver.received) == 1


@pytest.mark.parametrize("tries", range(len(PAUSES) + 1))
def test_notice_that_waits_for_its_next_try_is_not_due(create, start, tries):
    start(create()["media_id"], webhook_url="http://hooks.example/")
    pause = PAUSES[tries - 1] if tries else 5
    Job.objects.update(
        webhook_attempts=tries,
        webhook_due_at=timezone.now() + timedelta(seconds=pause),
    )
    assert take_due(16) == []


def test_notices_of_one_host_are_taken_one_at_a_time(create, start):
    for number, host in enumerate(["a", "a", "b", "a"]):
        start(create(str(number))["media_id"], webhook_url=f"http://{host}.example/")
    Job.objects.update(webhook_due_at=timezone.now())
    assert {job.webhook_host for job in take_due(16)} == {"a.example", "b.example"}
    assert [job.webhook_host for job in take_due(16)] == ["a.example"]
    assert take_due(16, but_hosts=["a.example"]) == []
    assert take_due(0) == []
    assert len(take_due(16)) == 1
    assert take_due(16) == []


def test_body_of_the_answer_is_not_waited_for(create, start, receiver, monkeypatch):
    """A receiver has said all with its status."""
    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 20.0)
    receiver.RequestHandlerClass = EndlessReceiver
    url = f"http://localhost:{receiver.server_port}/"
    start(create()["media_id"], webhook_url=url)
    work()
    send_due()
    assert Job.objects.get().webhook_due_at is None


class EndlessReceiver(Receiver):
    def do_POST(self):
        super().do_POST()
        self.rfile.read()  # until the sender hangs up


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hooks.example/",
        "http://",
        "http://user:secret@hooks.example/",
        "http://hooks.example:0/",
        "http://hooks.example:99999/",
        "http://[::1/",
        "http://hooks example/",
        "http://hooks.example/\u00e4",
    ],
)
def test_address_that_can_never_be_called_is_refused(create, start, url):
    answer = start(create()["media_id"], webhook_url=url)
    assert answer.status_code == 400
    assert "webhook_url" in answer.json()["detail"]


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
    send_due()
    assert connected == ([(PUBLIC, 80)] if called else [])
    assert Job.objects.get().webhook_due_at


def test_name_is_looked_up_once_so_that_no_second_answer_leads_elsewhere(
    create, start, receiver, names
):
    names["hooks.example"] = [["127.0.0.1"]]  # a second look-up would find nothing
    url = f"http://hooks.example:{receiver.server_port}/"
    start(create()["media_id"], webhook_url=url)
    work()
    send_due()
    ((headers, _),) = receiver.received
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["host"] == f"hooks.example:{receiver.server_port}"
    assert names["hooks.example"] == []
    assert Job.objects.get().webhook_due_at is None


class DrippingReceiver(BaseHTTPRequestHandler):
    """Answer well, one byte at a time, each before the time-out of a read."""

    server: "DrippingServer"

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


class DrippingServer(HTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), DrippingReceiver)
        self.closing, self.cut_off = threading.Event(), threading.Event()


TIMEOUT_SECONDS = 0.4  # for the whole; the drip takes 1.9 s


@pytest.fixture
def dripping(media_conf, monkeypatch):
    media_conf(webhook_secret=SECRET, webhook_allow_private=True)
    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    with serving(DrippingServer()) as server:
        yield server
        server.closing.set()


def test_answer_that_drips_is_cut_off(create, start, dripping):
    url = f"http://localhost:{dripping.server_port}/"
    start(create()["media_id"], webhook_url=url)
    work()
    send_due()
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
        "64:ff9b::127.0.0.1",
        "64:ff9b:1::7f00:1",
        "64:ff9b:1::808:808",
        "::",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:0:127.0.0.1",
        "::ffff:0:8.8.8.8",
        "::ffff:192.88.99.1",
        "2002:7f00:1::",
        "2002:c0a8:101:1::1",
        "2001::1",  # Teredo
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "3fff::1",
        "2606:4700::5efe:10.0.0.1",  # ISATAP
        "2606:4700::200:5efe:127.0.0.1",
        "fec0::1",
        "fe80::1%eth0",
        "ff02::1",
        "ff0e::1",
        "5f00::1",
        "100::1",
        "192.88.99.1",
        "192.0.2.1",
        "198.18.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ],
)
def test_address_is_private(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "93.184.215.14",
        "2606:4700::1111",
        "2a00:1450:4001:81b::200e",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:0808:0808::1",
    ],
)
def test_address_is_public(address):
    assert is_public(address)
