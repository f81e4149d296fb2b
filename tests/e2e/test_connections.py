"""Connections: kept for the next request, closed when the client says so, never held up by Nagle's algorithm."""

import json
import socket

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.sock import create_sockets

from tests.e2e.server import MODEL

pytestmark = pytest.mark.sqlite_only("what is read and answered before the application")

JSON = {"Content-Type": "application/json"}
BODY = json.dumps({"input": "over one connection", "model": MODEL})


def request_text(server, *headers, version="1.1"):
    lines = [
        f"POST /api/v1/embeddings HTTP/{version}",
        f"Host: localhost:{server.port}",
        f"X-API-KEY: {server.key}",
        "Content-Type: application/json",
        f"Content-Length: {len(BODY)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", BODY]).encode()


def read_to_the_end(line):
    """Return all that comes until the server closes the connection."""
    return b"".join(iter(lambda: line.recv(2**16), b""))


@pytest.fixture
def line(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as line:
        yield line


def test_one_connection_serves_many_requests(server):
    connection = server.connect()
    connection.connect()
    own_port = connection.sock.getsockname()[1]
    for _ in range(50):
        connection.request("POST", "/api/v1/embeddings", BODY, server.headers | JSON)
        answer = connection.getresponse()
        assert (answer.status, answer.will_close) == (200, False)
        answer.read()
    assert connection.sock.getsockname()[1] == own_port
    connection.close()


def test_connection_survives_a_refusal(server):
    connection = server.connect()
    for body, status in (("{", 400), (BODY, 200), ("{}", 400), (BODY, 200)):
        connection.request("POST", "/api/v1/embeddings", body, server.headers | JSON)
        answer = connection.getresponse()
        assert answer.status == status, answer.read()
        answer.read()
    connection.close()


def test_requests_sent_at_once_are_answered_in_turn(server, line):
    line.sendall(request_text(server) + request_text(server, "Connection: close"))
    assert read_to_the_end(line).count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    ("version", "headers"), [("1.1", ["Connection: close"]), ("1.0", [])]
)
def test_connection_is_closed_for_whoever_wants_no_more(server, line, version, headers):
    line.sendall(request_text(server, *headers, version=version))
    head, _, body = read_to_the_end(line).partition(b"\r\n\r\n")
    assert b" 200 OK" in head
    assert b"transfer-encoding" not in head.lower()
    assert json.loads(body)["model"] == MODEL


def test_http_1_0_client_may_keep_its_connection(server, line):
    kept = request_text(server, "Connection: keep-alive", version="1.0")
    line.sendall(kept + request_text(server, version="1.0"))
    assert read_to_the_end(line).count(b" 200 OK") == 2


def test_accepted_connections_send_small_answers_at_once():
    config = Config()
    config.set("bind", "127.0.0.1:0")
    [listener] = create_sockets(config, Logger(config))
    with (
        socket.create_connection(listener.sock.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    listener.close()
