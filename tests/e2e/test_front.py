"""The HTTP front: what slow, hostile and leaving clients do to others, which is nothing, and what happens to them."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from tests.e2e.front_app import PIECE
from tests.e2e.server import Server, free_port
from tests.waiting import poll

pytestmark = pytest.mark.sqlite_only("what is read and answered before the application")

KEY = "a-key-of-sane-form-1234"
THREADS = 4
CROWD = 64
SPOOL = 2**26


class Front(Server):
    """gunicorn with the product's worker class and an application that does what a test asks for."""

    def __init__(self, folder, **environment):
        port = free_port()
        super().__init__(
            folder,
            command=(
                *(sys.executable, "-m", "gunicorn", "--no-control-socket"),
                *("--worker-class", "embeddings_project.front.worker.FrontWorker"),
                *("--bind", f"127.0.0.1:{port}", "--threads", str(THREADS)),
                *("--graceful-timeout", "60", "--timeout", "5"),
                "tests.e2e.front_app:application",
            ),
            PORT=str(port),
            DJANGO_SETTINGS_MODULE="embeddings_project.settings",
            FRONT_TEST_FOLDER=str(folder),
            SINGLE_USER_API_KEY=KEY,
            **environment,
        )

    def open(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def say(self, raw):
        """Send `raw` over a connection of its own, and return all that comes until it is closed."""
        with self.open() as line:
            line.sendall(raw)
            return read_all(line)

    def logged(self, event):
        return [line for line in self.log_lines() if line.get("event") == event]


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """A front as it is by default."""
    running = Front(tmp_path_factory.mktemp("front"))
    yield running.wait_until_ready()
    running.end()


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A front with little patience and little space."""
    running = Front(
        tmp_path_factory.mktemp("strict"),
        HTTP_HEADER_TIMEOUT="1",
        HTTP_BODY_TIMEOUT="1",
        HTTP_WRITE_TIMEOUT="1",
        HTTP_SPOOL_BYTES=str(SPOOL),
        EMBEDDINGS_MAX_BODY_BYTES=str(SPOOL),
        MEDIA_MAX_BYTES="1024",
        WEB_CONCURRENCY="1",
    )
    yield running.wait_until_ready()
    running.end()


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a front of this test's own."""
    started = []

    def begin(**environment):
        started.append(Front(tmp_path / str(len(started)), **environment))
        return started[-1].wait_until_ready()

    yield begin
    for one in started:
        one.end()


def request(path="/echo", *, method="POST", length=None, headers=(), body=b""):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    lines += [f"Content-Length: {length if length is not None else len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_all(line):
    return b"".join(iter(lambda: line.recv(2**16), b""))


def problem(answer, status):
    """Check that an answer is an error like all others, and return its sentence."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:300]
    assert b"Content-Type: application/json" in head
    assert b"X-Request-ID: " in head
    assert b"Connection: close" in head
    said = json.loads(body)
    assert said["error"]["message"] == said["detail"]
    assert {"message", "type", "param", "code"} == set(said["error"])
    return said["detail"]


WITH_KEY = f"X-API-KEY: {KEY}"
SLOW = {
    "says nothing": b"",
    "half a head": b"POST /echo HTTP/1.1\r\nHost: localhost\r\nX-A",
    "half a body": request(length=100, headers=[WITH_KEY], body=b"half"),
    "half a body without a key": request(length=100, body=b"half"),
    "half a large body": request(length=10**6, headers=[WITH_KEY], body=b"half"),
    "half a probe": request("/healthz", length=10, body=b"half"),
    "half a chunk": request(headers=[WITH_KEY]).replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    + b"ff\r\nhalf",
    "reads nothing": request("/large/12"),
    "reads no stream": request("/stream/12"),
    "never closes": request("/healthz", method="GET", headers=["Connection: close"]),
}


@contextlib.contextmanager
def crowd(front, raw):
    """Open as many connections as would hold each thread many times over, each saying `raw` and no more."""
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(small_line(front)) for _ in range(CROWD)]
        for line in lines:
            line.sendall(raw)
        yield lines


def small_line(front):
    """Return a connection whose client has no buffer to speak of."""
    line = socket.socket()
    line.settimeout(60)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    line.connect(("127.0.0.1", front.port))
    return line


@pytest.mark.parametrize("raw", SLOW.values(), ids=SLOW)
def test_slow_clients_hold_nobody(front, raw):
    with crowd(front, raw):
        for path in ("/echo", "/healthz", "/readyz", "/large/1"):
            assert requests.get(front.url + path, timeout=30).status_code == 200


@pytest.mark.parametrize("raw", SLOW.values(), ids=SLOW)
def test_slow_clients_are_closed_in_time(strict, raw):
    with crowd(strict, raw) as lines:
        for line in lines:
            poll(lambda line=line: is_over(line), seconds=20, what="closed")


def is_over(line):
    """Whether the server has closed the connection, unread answer or not."""
    info = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return info[0] not in (1,)  # no more ESTABLISHED


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("half a head", "slow to send its head"),
        ("half a body", "slow to send its body"),
        ("reads nothing", "slow to read its answer"),
    ],
)
def test_log_says_how_many_were_too_slow(strict, kind, reason):
    def count():
        lines = strict.logged("connections_closed")
        return sum(line["reasons"].get(reason, 0) for line in lines)

    before = count()
    with crowd(strict, SLOW[kind]):
        poll(lambda: count() == before + CROWD, seconds=20, what="all are counted")


@pytest.mark.parametrize("kind", ["half a head", "half a body"])
def test_slow_client_is_answered_why(strict, kind):
    assert "too" in problem(strict.say(SLOW[kind]), 408)


def test_patient_upload_is_taken(strict):
    with strict.open() as line:
        line.sendall(request(length=12_000, headers=["Connection: close"]))
        for _ in range(6):
            time.sleep(0.5)  # longer in all than a client may rest
            line.sendall(bytes(2000))
        assert b'"size": 12000' in read_all(line)


def test_large_body_without_a_key_is_refused_unread(front):
    refused = front.say(request(length=10**6))
    assert "X-API-KEY" in problem(refused, 401)
    assert b"WWW-Authenticate: " in refused


def test_large_chunked_body_without_a_key_is_refused(front):
    head = request().replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    assert problem(front.say(head + b"20000\r\n" + bytes(2**17)), 401)


@pytest.mark.parametrize(
    "header",
    [WITH_KEY, f"Authorization: Bearer {KEY}", "Cookie: sessionid=abc"],
)
def test_large_body_with_what_could_be_a_key_is_read(front, header):
    body = os.urandom(3 * 2**20)
    answer = front.say(request(body=body, headers=[header, "Connection: close"]))
    assert hashlib.sha256(body).hexdigest().encode() in answer


def test_body_over_the_limit_is_refused_at_once(front):
    refused = front.say(request(length=10**12, headers=[WITH_KEY]))
    assert "limit" in problem(refused, 413)


def test_bodies_under_way_share_one_bound(strict):
    half = request(length=SPOOL, headers=[WITH_KEY], body=bytes(SPOOL * 3 // 4))
    with strict.open() as first:
        first.sendall(half)
        poll(lambda: is_read(strict), what="the body is read")
        refused = strict.say(half)
    assert "try again" in problem(refused, 503)
    assert b"Retry-After: " in refused
    whole = request(body=bytes(SPOOL * 3 // 4), headers=[WITH_KEY, "Connection: close"])
    poll(lambda: b" 200 OK" in strict.say(whole), what="space again")


def is_read(front):
    """Whether nothing waits in the server's socket buffers."""
    with Path("/proc/net/tcp").open() as table:
        rows = [line.split() for line in table][1:]
    port = f":{front.port:04X}"
    return all(row[4].endswith(":00000000") for row in rows if row[1].endswith(port))


def test_answers_that_nobody_reads_share_the_bound(strict):
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(small_line(strict)) for _ in range(8)]
        for line in lines:
            line.sendall(request("/large/300"))  # 20 MB
        poll(lambda: sum(map(is_over, lines)) >= 5, what="most are closed")
        assert requests.get(strict.url + "/large/1", timeout=30).content == PIECE


@pytest.mark.parametrize("path", ["/large/300", "/stream/300"])
def test_large_answer_reaches_a_slow_reader_whole(front, path):
    with small_line(front) as line:
        line.sendall(request(path, headers=["Connection: close"]))
        time.sleep(0.5)
        answer = read_all(line)
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in head:
        body = unchunked(body)
    assert body == PIECE * 300


def unchunked(body):
    whole = []
    while True:
        size, _, body = body.partition(b"\r\n")
        if size == b"0":
            return b"".join(whole)
        whole.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]


def test_stream_is_no_burden_on_memory(front):
    process = front.workers()[0]
    before = process.memory_info().rss
    with small_line(front) as line:
        line.sendall(request("/stream/3000", headers=["Connection: close"]))  # 190 MB
        poll(lambda: not threads_at_work(front), what="the thread is free")
        assert process.memory_info().rss - before < 50 * 2**20


def threads_at_work(front):
    with ThreadPoolExecutor(THREADS) as pool:
        asked = [
            pool.submit(requests.get, front.url + "/echo", timeout=30)
            for _ in range(THREADS)
        ]
        return not all(one.result().ok for one in asked)


def test_old_http_gets_a_stream_until_the_end_of_the_connection(front):
    answer = front.say(b"GET /stream/3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert body == PIECE * 3


@pytest.mark.parametrize("path", ["/large/1", "/stream/1"])
def test_head_has_no_body(front, path):
    raw = request(path, method="HEAD", headers=["Connection: close"])
    assert front.say(raw).partition(b"\r\n\r\n")[2] == b""


def test_answer_without_content_leaves_the_connection_open(front):
    last = request("/nothing", headers=["Connection: close"])
    answer = front.say(request("/nothing") + last)
    assert answer.count(b"HTTP/1.1 204 ") == 2
    assert b"chunked" not in answer


def test_chunked_body_arrives_with_its_length(front):
    answer = requests.post(
        front.url + "/echo", data=iter([b"in ", b"pieces"]), timeout=30
    ).json()
    assert answer["size"] == 9
    assert answer["seen"]["CONTENT_LENGTH"] == "9"
    assert "HTTP_TRANSFER_ENCODING" not in answer["seen"]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX-A: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nExpect: wonders\r\n\r\n", 417),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/3.0\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_what_is_refused_before_the_application_is_json(front, raw, status):
    assert problem(front.say(raw), status)


def test_refusal_has_the_request_id_of_the_client_and_a_line_in_the_log(front):
    refused = front.say(request(length=10**6, headers=["X-Request-ID: mine-42"]))
    assert b"X-Request-ID: mine-42" in refused
    [line] = [
        one for one in front.logged("request_refused") if one["request_id"] == "mine-42"
    ]
    assert (line["status"], line["path"]) == (401, "/echo")


def test_nothing_is_smuggled_behind_a_refused_request(front):
    raw = (
        b"POST /echo HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /large/1 HTTP/1.1\r\n\r\n"
    )
    assert front.say(raw).count(b"HTTP/1.1 ") == 1


def test_requests_behind_a_chunked_body_are_served_in_turn(front):
    first = request().replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    first += b"2\r\nab\r\n0\r\n\r\n"
    answer = front.say(first * 3 + request(headers=["Connection: close"]))
    assert answer.count(b'"size": 2') == 3
    assert answer.count(b'"size": 0') == 1


@pytest.mark.parametrize("path", ["/fail", "/split"])
def test_failure_of_the_application_is_json(front, path):
    assert problem(front.say(request(path)), 500)
    poll(lambda: front.logged("request_failed"), what="its traceback in the log")


def test_answer_that_breaks_off_is_not_ended_like_a_whole_one(front):
    answer = front.say(request("/fail-later"))
    assert PIECE[:1000] in answer
    assert not answer.endswith(b"0\r\n\r\n")


def test_answer_shorter_than_announced_ends_the_connection(front):
    assert front.say(request("/too-short")).endswith(b"short")


def test_no_more_than_was_announced_is_sent(front):
    last = request("/too-long", headers=["Connection: close"])
    answer = front.say(request("/too-long") + last)
    assert b"and more" not in answer
    assert answer.count(b"short") == 2


def test_probes_are_answered_while_all_threads_are_busy(front):
    names = [f"busy-{number}" for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            waiting = [
                pool.submit(requests.get, f"{front.url}/wait/{name}", timeout=60)
                for name in names
            ]
            for name in names:
                poll((front.folder / f"{name}.began").exists, what="under way")
            for path in ("/healthz", "/readyz"):
                assert requests.get(front.url + path, timeout=30).ok
        finally:
            for name in names:
                (front.folder / name).touch()
        assert all(one.result().ok for one in waiting)


def test_application_sees_that_its_client_left(front):
    with front.open() as line:
        line.sendall(request("/leave/early"))
        poll((front.folder / "early.began").exists, what="under way")
        assert not (front.folder / "early.left").exists()
    poll((front.folder / "early.left").exists, what="the client's leaving is seen")


def test_two_thousand_at_once_are_all_answered(front):
    raw = request("/echo", headers=["Connection: close"])
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(front.open()) for _ in range(2000)]
        for line in lines:
            line.sendall(raw)
        assert all(read_all(line).startswith(b"HTTP/1.1 200 ") for line in lines)


def test_one_address_holds_half_of_the_connections(start):
    front = start(HTTP_MAX_CONNECTIONS="20", HTTP_HEADER_TIMEOUT="60")
    with contextlib.ExitStack() as stack:
        began = [f"one-{number}" for number in range(10)]
        for _name in began:
            line = stack.enter_context(front.open())
            line.sendall(request(length=100, headers=[WITH_KEY], body=b"half"))
        poll(lambda: is_read(front), what="all are read")
        assert "connections" in problem(front.say(request("/echo")), 503)
        other = stack.enter_context(
            socket.create_connection(
                ("127.0.0.1", front.port), timeout=60, source_address=("127.0.0.2", 0)
            )
        )
        other.sendall(request("/echo", headers=["Connection: close"]))
        assert b" 200 OK" in read_all(other)


def test_connection_that_only_waits_gives_way_to_a_new_one(start):
    front = start(HTTP_MAX_CONNECTIONS="20", HTTP_HEADER_TIMEOUT="60")
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(front.open()) for _ in range(10)]
        time.sleep(1.5)  # those that came just now are left alone
        assert requests.get(front.url + "/echo", timeout=30).ok
        assert lines[0].recv(1) == b""


def test_stop_answers_what_is_under_way_and_refuses_the_rest(start):
    front = start()
    kept, probing = front.open(), front.open()
    with kept, probing, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(requests.get, f"{front.url}/wait/last", timeout=60)
        poll((front.folder / "last.began").exists, what="under way")
        front.process.send_signal(signal.SIGTERM)
        poll(lambda: refuses(front), what="new connections are refused")
        probing.sendall(request("/readyz", method="GET"))
        said = read_all(probing)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"draining" in said
        kept.sendall(request("/echo"))
        last = read_all(kept)
        assert last.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in last
        (front.folder / "last").touch()
        assert answer.result().text == "done"
    assert front.process.wait(60) == 0


def refuses(front):
    try:
        front.open().close()
    except ConnectionRefusedError:
        return True
    return False


def test_stop_cuts_what_outlasts_the_drain(start):
    front = start(DRAIN_SECONDS="1")
    with front.open() as line:
        line.sendall(request("/wait/for-ever"))
        poll((front.folder / "for-ever.began").exists, what="under way")
        front.process.send_signal(signal.SIGTERM)
        assert front.process.wait(60) == 0
    assert front.logged("drain_cut")


def test_idle_connections_do_not_delay_the_stop(start):
    front = start(DRAIN_SECONDS="600")
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(front.open())
        front.process.send_signal(signal.SIGTERM)
        assert front.process.wait(60) == 0


def held(front):
    """Return how many connections each process has."""
    return [
        sum(each.status == "ESTABLISHED" for each in worker.net_connections("tcp"))
        for worker in front.workers()
    ]


def wait_for_two(front):
    """Wait until two processes take connections."""
    with contextlib.ExitStack() as stack:

        def each_has_one():
            stack.enter_context(front.open())
            return len(held(front)) == 2 and all(held(front))

        poll(each_has_one, what="two processes")
    poll(lambda: sum(held(front)) == 0, what="the end of these connections")


@pytest.mark.parametrize("pause_seconds", [0, 0.02], ids=["at once", "by and by"])
def test_processes_share_the_connections(start, pause_seconds):
    front = start(WEB_CONCURRENCY="2")
    wait_for_two(front)
    with contextlib.ExitStack() as stack:
        for _ in range(32):
            stack.enter_context(front.open())
            threading.Event().wait(pause_seconds)
        poll(lambda: sum(held(front)) == 32, what="all connections")
        assert min(held(front)) >= 12


def test_connections_are_taken_while_a_process_stands_still(start):
    front = start(WEB_CONCURRENCY="2")
    wait_for_two(front)
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(front.open())
        poll(lambda: sum(held(front)) == 8, what="all connections")
        os.kill(front.workers()[0].pid, signal.SIGSTOP)
        for _ in range(8):
            assert requests.get(front.url + "/echo", timeout=4).ok


def test_process_that_stands_still_is_replaced(start):
    front = start()
    poll(front.workers, what="a worker")
    [stuck] = front.workers()
    os.kill(stuck.pid, signal.SIGSTOP)
    poll(lambda: not psutil.pid_exists(stuck.pid), seconds=60, what="it is gone")
    assert requests.get(front.url + "/echo", timeout=60).ok


def test_long_request_does_not_look_like_a_process_that_stands_still(start):
    front = start()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(requests.get, f"{front.url}/wait/long", timeout=60)
        threading.Event().wait(8)  # gunicorn's timeout is 5
        (front.folder / "long").touch()
        assert answer.result().text == "done"
