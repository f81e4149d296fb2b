"""What slow clients do to an honest one: `python benchmarks/slow_clients.py [--crowds 64,1000,5000]`.

A server of this repository's own serves cached texts. One client asks over new connections, at first alone, then beside
crowds of slow ones of each kind, from an address of their own. Then 2,000 clients ask at once.
"""

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import platform
import resource
import secrets
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
KEY = secrets.token_hex(16)
MODEL = "huggingface:sentence-transformers/all-MiniLM-L6-v2"
CROWD_ADDRESSES = ("127.0.0.2", "127.0.0.3")  # one may hold half of all connections
ASK_SECONDS = 8.0
AT_ONCE = 2000
WAIT_SECONDS = 100.0


def request(
    path: str, *headers: str, length: int | None = None, body: bytes = b""
) -> bytes:
    size = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *headers]
    lines += ["Content-Type: application/json", f"Content-Length: {size}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join(
        [f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
    ).encode()


BODY = json.dumps(
    {"input": "hello", "model": MODEL, "encoding_format": "base64"}
).encode()
EMBED = request(
    "/api/v1/embeddings", f"X-API-KEY: {KEY}", "Connection: close", body=BODY
)
PROBE = get("/healthz", "Connection: close")
HONEST = {"embeddings": EMBED, "healthz": PROBE}
KINDS = {
    "half heads": b"POST /api/v1/embeddings HTTP/1.1\r\nHost: localhost\r\nX-A",
    "half bodies": request(
        "/api/v1/embeddings", f"X-API-KEY: {KEY}", length=100, body=b"{"
    ),
    # A large answer that costs the server little: this crowd is slow, not heavy.
    "slow readers": get(
        "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
    ),
    "unclosed": get("/healthz", "Connection: close"),
}


@contextlib.contextmanager
def server(processes: int) -> Iterator[int]:
    """Run the product at a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        given = {
            "PORT": str(port),
            "SINGLE_USER_API_KEY": KEY,
            "MEDIA_WORKERS": "0",
            "WEB_CONCURRENCY": str(processes),
            "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
        }
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve"],
            cwd=REPOSITORY,
            env={**os.environ, **given},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not answers(port):
                time.sleep(0.2)
            yield port
        finally:
            process.terminate()
            process.wait(60)


def answers(port: int) -> bool:
    try:
        return ask(port, EMBED)[1] == 200
    except OSError:
        return False


def ask(port: int, raw: bytes) -> tuple[float, int]:
    """Send a request over a new connection; return the seconds until all of the answer was there, and its status."""
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS) as line:
        line.sendall(raw)
        answer = b"".join(iter(lambda: line.recv(2**16), b""))
    return time.perf_counter() - started, int(answer[9:12] or 0)


def honest(port: int, requests: dict[str, bytes]) -> dict[str, list[float]]:
    """Ask for a while, as a client in a process of its own; return the seconds of each good answer, and of bad ones."""
    took: dict[str, list[float]] = {"embeddings": [], "healthz": [], "failed": []}
    ends_at = time.monotonic() + ASK_SECONDS
    while time.monotonic() < ends_at:
        for name, raw in requests.items():
            try:
                seconds, status = ask(port, raw)
            except OSError:
                seconds, status = 0.0, 0
            took[name if status == 200 else "failed"].append(seconds)
        time.sleep(0.005)
    return took


@contextlib.contextmanager
def crowd(port: int, raw: bytes, size: int) -> Iterator[list[socket.socket]]:
    """Open `size` connections, each saying `raw` and then nothing."""
    with contextlib.ExitStack() as stack:
        addresses = itertools.cycle(CROWD_ADDRESSES)
        lines = []
        for _ in range(size):
            line = stack.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            line.settimeout(WAIT_SECONDS)
            line.bind((next(addresses), 0))
            line.connect(("127.0.0.1", port))
            line.sendall(raw)
            lines.append(line)
        yield lines


def seconds_until_closed(lines: list[socket.socket]) -> float | None:
    """Return when the last connection was closed by the server, from now; None if some are not."""
    started = time.monotonic()
    waiting = lines
    while time.monotonic() - started < WAIT_SECONDS:
        waiting = [line for line in waiting if is_open(line)]
        if not waiting:
            return time.monotonic() - started
        time.sleep(0.1)
    return None


def is_open(line: socket.socket) -> bool:
    established = 1
    return line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == established


def at_once(port: int, size: int) -> tuple[Counter[int], float]:
    """Have `size` clients ask at the same moment; return their statuses, and the seconds until the last answer."""
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        started = time.monotonic()
        for _ in range(size):
            line = stack.enter_context(
                socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
            )
            line.sendall(EMBED)
            selector.register(line, selectors.EVENT_READ)
        statuses: Counter[int] = Counter()
        while selector.get_map() and time.monotonic() - started < WAIT_SECONDS:
            for key, _ in selector.select(1):
                statuses[int(key.fileobj.recv(2**16)[9:12] or 0)] += 1  # type: ignore[union-attr]
                selector.unregister(key.fileobj)
    return statuses, time.monotonic() - started


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def percentile(took: list[float], share: float) -> float:
    return sorted(took)[int(len(took) * share)] * 1e3 if took else float("nan")


def row(name: str, took: dict[str, list[float]], closed: str) -> None:
    figures = [
        f"{statistics.median(took[kind]) * 1e3:.1f} / {percentile(took[kind], 0.99):.1f} / {max(took[kind]) * 1e3:.0f}"
        if took[kind]
        else "none"
        for kind in ("embeddings", "healthz")
    ]
    print(
        f"| {name} | {' | '.join(figures)} | {len(took['failed'])} | {closed} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crowds", default="64,1000,5000")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"{processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("ms: median / 99th percentile / longest\n")
    print(
        "| beside | embeddings | healthz | failed | all closed after |\n|---|---|---|---|---|"
    )
    with (
        server(options.processes) as port,
        multiprocessing.get_context("spawn").Pool(1) as pool,
    ):
        row("nobody", pool.apply(honest, [port, HONEST]), "")
        for size in map(int, options.crowds.split(",")):
            for name, raw in KINDS.items():
                with crowd(port, raw, size) as lines:
                    began = time.monotonic()
                    time.sleep(1)
                    took = pool.apply(honest, [port, HONEST])
                    later = seconds_until_closed(lines)
                    closed = (
                        "never"
                        if later is None
                        else f"{time.monotonic() - began:.0f} s"
                    )
                row(f"{size} {name}", took, closed)
                row("nobody", pool.apply(honest, [port, HONEST]), "")
        statuses, seconds = at_once(port, AT_ONCE)
        print(f"\n{AT_ONCE} at once: {dict(statuses)} within {seconds:.1f} s")


if __name__ == "__main__":
    main()
