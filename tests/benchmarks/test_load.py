"""The load generator, against a real server in this process."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.load import Stream, send
from tests.servers import serving


class Echo(BaseHTTPRequestHandler):
    """Answers what it was sent; `fail` with 500, `hang up` not at all, `chunks` in two chunks."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if b"hang up" in body:
            self.close_connection = True
            return
        self.send_response(500 if b"fail" in body else 200)
        if b"chunks" in body:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            half = len(body) // 2
            for part in (body[:half], body[half:], b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def port():
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Echo)) as server:
        yield server.server_address[1]


def bodies(*values):
    return [json.dumps(value).encode() for value in values]


def test_each_request_is_answered_once_and_timed(port):
    (answers,) = send(port, "/", {}, [Stream(bodies=bodies(*range(20)), connections=3)])

    assert sorted(answers.numbers) == [*range(20)]
    assert all(0 < seconds <= answers.elapsed for seconds in answers.seconds)
    assert answers.errors == 0


def test_bodies_are_kept_whole_with_and_without_a_length(port):
    large = "x" * 1_000_000
    (answers,) = send(
        port, "/", {}, [Stream(bodies=bodies(large, "chunks" + large), keep=True)]
    )

    assert answers.kept == {0: json.dumps(large), 1: json.dumps("chunks" + large)}


def test_errors_and_lost_connections_are_counted_apart_from_answers(port):
    (answers,) = send(
        port, "/", {}, [Stream(bodies=bodies("one", "fail", "hang up", "two"))]
    )

    assert answers.numbers == [0, 3]
    assert answers.errors == 2
    assert answers.first_error == '"fail"'


def test_a_following_stream_ends_with_the_one_it_follows(port):
    leader, follower = send(
        port,
        "/",
        {},
        [
            Stream(bodies=bodies(*range(5))),
            Stream(bodies=bodies(*range(100_000)), follows=True),
        ],
    )

    assert len(leader.numbers) == 5
    assert 0 < len(follower.numbers) < 100_000
    assert len(follower.waiting) == 1
