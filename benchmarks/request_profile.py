"""Where the CPU time of one request goes: `python benchmarks/request_profile.py`.

Requests of a client in another process go through a socket, gunicorn's own parser and response, and the whole
application, all in one thread, whose stack is looked at after every millisecond of CPU time that the process uses. What
other threads do meanwhile, such as the engine's, is counted where this one waits for it.
"""

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.http_overhead import WORDS, exchange, request_of, write

KEY = secrets.token_hex(16)
WARM_UP = 100
# A stack belongs to the first layer that is found in it, seen from its innermost frame outwards.
LAYERS: dict[str, tuple[str, ...]] = {
    "the engine": ("providers/engine/", "providers/breaker"),
    "counting tokens": ("services/tokenization",),
    "the cache": ("services/cache",),
    "unit length": ("services/dimensions",),
    "metrics and usage": (
        "services/request_metrics",
        "services/usage",
        "providers/metrics",
    ),
    "choosing the model": ("services/routing", "providers/registry"),
    "the rest of embed()": ("services/embed",),
    "authentication and limits": ("embeddings/access",),
    "reading and checking": ("api/parsers", "api/requests", "api/serializers"),
    "writing the answer": ("api/representation", "api/renderers", "api/views"),
    "the log line": ("structlog/", "logging/__init__", "gunicorn/glogging"),
    "REST framework": ("rest_framework/views",),
    "Django and middleware": ("django/core/handlers", "embeddings_project/"),
    "gunicorn": ("gunicorn/",),
}
CASES: dict[str, tuple[int, bool, int]] = {
    "one cached text": (1, True, 6000),
    "one new text": (1, False, 400),
    "2048 cached texts": (2048, True, 100),
}


def layer_of(frame: FrameType | None) -> str:
    """Return where a stack belongs."""
    while frame:
        file = frame.f_code.co_filename
        for layer, paths in LAYERS.items():
            if any(path in file for path in paths):
                return layer
        frame = frame.f_back
    return "the rest"


class Connection:
    """gunicorn's way from a socket to the application and back, without its threads."""

    def __init__(self, sock: socket.socket, address: Any, config: Any) -> None:
        from gunicorn import http

        self.sock, self.client, self.server = sock, address, sock.getsockname()
        self._parser = http.get_parser(config, sock, address)

    def serve(self, worker: Any) -> None:
        """Answer one request."""
        worker.handle_request(next(self._parser), self)
        self._parser.finish_body()


def make_worker() -> Any:
    """Return a worker of gunicorn with the product's settings and application, that runs nothing by itself."""
    import django

    django.setup()
    from django.core.management import call_command
    from gunicorn.config import Config
    from gunicorn.workers.gthread import ThreadWorker

    import embeddings_project.gunicorn as product
    from embeddings.services.preparation import prepare_local_model

    call_command("migrate", verbosity=0)
    prepare_local_model()
    config = Config()
    for name, value in vars(product).items():
        if name in config.settings:
            config.set(name, value)
    product.on_starting(None)
    from embeddings_project.wsgi import application  # after the metrics' folder

    worker = ThreadWorker.__new__(ThreadWorker)
    worker.cfg, worker.log = config, config.logger_class(config)
    worker.nr, worker.max_requests, worker.alive = 0, sys.maxsize, True
    worker.keepalived_conns, worker.max_keepalived = [], 1000
    worker.wsgi = application
    return worker


def profile(worker: Any, case: str) -> None:
    """Answer a client's requests and print how the time was spent."""
    *_, count = CASES[case]
    layers: Counter[str] = Counter()

    def look(_: int, frame: FrameType | None) -> None:
        layers[layer_of(frame)] += 1

    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [
            sys.executable,
            __file__,
            "--ask",
            case,
            str(listener.getsockname()[1]),
        ]
        client = subprocess.Popen(command, env={**os.environ, "KEY": KEY})  # noqa: S603
        sock, address = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as gunicorn's
    connection = Connection(sock, address, worker.cfg)
    for _ in range(min(WARM_UP, count)):
        connection.serve(worker)
    signal.signal(signal.SIGPROF, look)
    started = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    for _ in range(count):
        connection.serve(worker)
    signal.setitimer(signal.ITIMER_PROF, 0)
    each = (time.process_time() - started) / count
    sock.close()
    client.wait()
    report(case, each, layers)


def report(case: str, each: float, layers: Counter[str]) -> None:
    write(f"\n{case}: {each * 1e6:.0f} us of CPU")
    for layer in [*LAYERS, "the rest"]:
        share = layers[layer] / layers.total()
        write(f"  {layer:26} {share:6.1%} {share * each * 1e6:9.0f} us")


def ask(case: str, port: int) -> None:
    """Send a case's requests, one after the other: the client's process."""
    texts, cached, count = CASES[case]
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for number in range(min(WARM_UP, count) + count):
            # The cache may outlive the process; the key is new each time.
            mark = "" if cached else f"{os.environ['KEY'][:8]} {number} "
            own = [f"{mark}{index} {WORDS}" for index in range(texts)]
            exchange(connection, request_of(own, "base64", key=os.environ["KEY"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ask", nargs=2, metavar=("CASE", "PORT"), help="used inside")
    options = parser.parse_args()
    if options.ask:
        ask(options.ask[0], int(options.ask[1]))
        return
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.update(
            AUTH_MODE="single_user",
            SINGLE_USER_API_KEY=KEY,
            DATABASE_URL=f"sqlite:///{scratch}/db.sqlite3",
            DJANGO_SETTINGS_MODULE="embeddings_project.settings",
        )
        worker = make_worker()
        for case in CASES:
            profile(worker, case)


if __name__ == "__main__":
    main()
