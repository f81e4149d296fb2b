"""What HTTP costs where the vectors are known already: `python benchmarks/http_overhead.py`.

Two servers run side by side: the product, asked for texts it holds in its cache, and an empty REST framework view under
gunicorn's own threads. Load goes to one and the other in short turns, so what else the machine does falls on
both; the ratio is that of the medians. Then one request of 2048 cached texts is held against writing its vectors alone.
"""

import argparse
import base64
import json
import multiprocessing
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil

REPOSITORY = Path(__file__).parents[1]
PATH = "/api/v1/embeddings"
MODEL = "huggingface:sentence-transformers/all-MiniLM-L6-v2"
KEY = secrets.token_hex(16)
THREADS = 64
RATE_LIMIT, BULK_LIMIT = 0.60, 5.0
SETTLE_SECONDS = 3  # new rows are written to the cache's file behind the answer
BULK_TEXTS, BULK_DIMENSIONS = 2048, 384
GUNICORN = ("--worker-class", "gthread", "--workers", "1", "--keep-alive", "75")


class Server:
    """A server of our own at a free port."""

    def __init__(self, *command: str, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        given = {"PORT": str(self.port), "LOG_LEVEL": "info", **environment}
        # Logs are written as they always are, to a pipe that is emptied, as service managers and containers do.
        self._log = subprocess.Popen(
            ["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self._process = subprocess.Popen(  # noqa: S603  (our own commands)
            [word.format(port=self.port) for word in command],
            cwd=REPOSITORY,
            env={**os.environ, **given},
            stdout=subprocess.DEVNULL,
            stderr=self._log.stdin,
        )

    def wait_until_it_answers(self, request: bytes) -> None:
        """Return after the first good answer to `request`."""
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port)) as connection:
                    exchange(connection, request)
                return
            except OSError:
                time.sleep(0.2)
        raise SystemExit(f"The server does not answer: {self._process.args!r}")

    def cpu_seconds(self) -> float:
        """Return what the server's processes have used so far."""
        process = psutil.Process(self._process.pid)
        times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
        return sum(used.user + used.system for used in times)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(40)
        self._log.communicate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of load: answers a second, and the server's CPU seconds for each."""

    rate: float
    cpu_seconds: float


def product() -> Server:
    """Start this repository's server, with a database of its own and the weights of `DATA_DIR`."""
    return Server(
        sys.executable,
        "manage.py",
        "serve",
        AUTH_MODE="single_user",
        SINGLE_USER_API_KEY=KEY,
        DATABASE_URL=f"sqlite:///{SCRATCH.name}/db.sqlite3",
        MEDIA_WORKERS="0",
        WEB_CONCURRENCY="1",
        WEB_THREADS=str(THREADS),
    )


def empty_view() -> Server:
    """Start the floor."""
    return Server(
        *(sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:{port}", *GUNICORN),
        *("--threads", str(THREADS), "--no-control-socket"),
        "benchmarks.peers.empty_view:application",
    )


def request_of(texts: list[str], encoding_format: str, *, key: str = KEY) -> bytes:
    """Return a whole HTTP request for the vectors of `texts`."""
    body = json.dumps(
        {"input": texts, "model": MODEL, "encoding_format": encoding_format}
    ).encode()
    head = [
        f"POST {PATH} HTTP/1.1",
        "Host: localhost",
        f"X-API-KEY: {key}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def exchange(connection: socket.socket, request: bytes) -> bytes:
    """Send `request`, read the whole answer and return its body. Raises ConnectionError unless it is a 200."""
    connection.sendall(request)
    got = bytearray()
    while b"\r\n\r\n" not in got:
        got += received(connection)
    head, _, body = got.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(bytes(got[:500]).decode())
    _, announced, rest = head.lower().partition(b"content-length:")
    if not announced:
        while not body.endswith(b"0\r\n\r\n"):
            body += received(connection)
        return bytes(body)
    length = int(rest.split(b"\r\n", 1)[0])
    while len(body) < length:
        body += received(connection)
    return bytes(body)


def received(connection: socket.socket) -> bytes:
    if not (piece := connection.recv(2**20)):
        raise ConnectionError("The server closed the connection.")
    return piece


def drive(port: int, request: bytes, connections: int, seconds: float) -> float:
    """Keep one request open on each of `connections`; return answers a second. Runs in a process of its own."""
    import selectors

    selector = selectors.DefaultSelector()
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        exchange(connection, request)
        selector.register(connection, selectors.EVENT_READ, bytearray())
    answers, started = 0, time.perf_counter()
    for key in selector.get_map().values():
        socket_of(key).sendall(request)
    while (now := time.perf_counter()) - started < seconds:
        for key, _ in selector.select(timeout=1):
            key.data.extend(received(socket_of(key)))
            if is_whole(key.data):
                answers += 1
                key.data.clear()
                socket_of(key).sendall(request)
    for key in list(selector.get_map().values()):
        socket_of(key).close()
    return answers / (now - started)


def socket_of(key: Any) -> socket.socket:
    connection: socket.socket = key.fileobj
    return connection


def is_whole(answer: bytearray) -> bool:
    """Return whether all of an answer is there."""
    end = answer.find(b"\r\n\r\n") + 4
    if end < 4:
        return False
    start = answer.find(b"Content-Length: ", 0, end)
    if start < 0:
        return answer.endswith(b"0\r\n\r\n")
    return len(answer) >= end + int(answer[start + 16 : answer.find(b"\r", start)])


def turn(server: Server, pool: Any, request: bytes, options: Any) -> Turn:
    """Load `server` for a moment."""
    before = server.cpu_seconds()
    rate = pool.apply(
        drive, (server.port, request, options.connections, options.seconds)
    )
    used = server.cpu_seconds() - before
    return Turn(
        rate=rate,
        cpu_seconds=used / (rate * options.seconds + options.connections),
    )


def compare(ours: Server, floor: Server, pool: Any, options: Any) -> bool:
    """Print both rates for either encoding; return whether the ratios reach the limit."""
    good = True
    for encoding in ("base64", "float"):
        request = request_of(["A short text that was asked for before."], encoding)
        turns: dict[str, list[Turn]] = {"product": [], "empty view": []}
        for _ in range(options.rounds):
            turns["product"].append(turn(ours, pool, request, options))
            turns["empty view"].append(turn(floor, pool, request, options))
        for name, done in turns.items():
            rate = statistics.median(one.rate for one in done)
            cpu = statistics.median(one.cpu_seconds for one in done)
            write(f"{encoding:7} {name:11} {rate:7.0f}/s  {cpu * 1e6:6.0f} us CPU each")
        ratio = statistics.median(
            own.rate / bare.rate
            for own, bare in zip(turns["product"], turns["empty view"], strict=True)
        )
        good &= verdict(f"{encoding} rate", ratio, at_least=RATE_LIMIT)
    return good


def bulk(ours: Server, options: Any) -> bool:
    """Print what a request of 2048 cached texts takes, and what writing its vectors takes alone."""
    texts = [f"Cached text number {number}: {WORDS}" for number in range(BULK_TEXTS)]
    request = request_of(texts, "base64")
    vectors = np.random.default_rng(1).random((BULK_TEXTS, BULK_DIMENSIONS), np.float32)
    alone, wall = [], []
    with socket.create_connection(("127.0.0.1", ours.port)) as connection:
        exchange(connection, request)
        time.sleep(SETTLE_SECONDS)
        exchange(connection, request)
        before = ours.cpu_seconds()
        for _ in range(options.bulk_rounds):
            wall.append(seconds(lambda: exchange(connection, request)))
            alone.append(seconds(lambda: serialised(vectors)))
        cpu = (ours.cpu_seconds() - before) / options.bulk_rounds
    base = statistics.median(alone)
    write(f"2048    serialising  {base * 1e3:6.1f} ms")
    write(f"2048    product      {cpu * 1e3:6.1f} ms CPU")
    write(f"2048    client waits {statistics.median(wall) * 1e3:6.1f} ms")
    waits = statistics.median(own / bare for own, bare in zip(wall, alone, strict=True))
    verdict("2048 client's wait", waits, at_most=BULK_LIMIT)
    return verdict("2048 CPU", cpu / base, at_most=BULK_LIMIT)


def seconds(do: Callable[[], Any]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def serialised(vectors: Any) -> bytes:
    rows = [base64.b64encode(row).decode() for row in vectors]
    return orjson.dumps(
        [
            {"object": "embedding", "index": index, "embedding": row}
            for index, row in enumerate(rows)
        ]
    )


def verdict(
    what: str, figure: float, *, at_least: float = 0.0, at_most: float = float("inf")
) -> bool:
    """Print a ratio beside its limit and return whether it keeps it."""
    good = at_least <= figure <= at_most
    limit = f"at least {at_least:.2f}" if at_least else f"at most {at_most:.2f}"
    write(f"{what}: {figure:.2f} ({limit}: {'kept' if good else 'MISSED'})")
    return good


def write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


WORDS = "the quick brown fox jumps over the lazy dog " * 4
SCRATCH = tempfile.TemporaryDirectory()


def main() -> bool:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.5, help="one turn of load")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bulk-rounds", type=int, default=15)
    options = parser.parse_args()
    with ExitStack() as stack:
        stack.callback(SCRATCH.cleanup)
        servers = product(), empty_view()
        for server in servers:
            stack.callback(server.stop)
        for server in servers:
            server.wait_until_it_answers(request_of(["Are you there?"], "float"))
        pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(1))
        kept = compare(*servers, pool, options)
        return bulk(servers[0], options) and kept


if __name__ == "__main__":
    sys.exit(not main())
