"""The engine process: one queue for all processes of the machine. A thread for each connection hands calls to the pool.

A run that hangs can't be ended, but its process can: it exits, and its owner starts another one.
"""

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import structlog

from providers.base import Vectors
from providers.engine.inference import Work
from providers.engine.options import EngineOptions, limits_of, weights_of
from providers.engine.pool import Pool
from providers.engine.process import wire
from providers.engine.process.place import HUNG
from providers.engine.process.wire import Channel, Closed
from providers.engine.runtime import Row
from providers.exceptions import ProviderError, ProviderUnavailable
from providers.stages import stages
from providers.waiting import caller_left

LOOK_SECONDS = 0.2
HEALTH_SECONDS = 1.0

log = structlog.get_logger(__name__)


class EngineServer:
    """Answers at a listening socket until SIGTERM, and then until its clients left, for `drain_seconds` at most."""

    def __init__(
        self, pool: Pool, listener: socket.socket, *, drain_seconds: float
    ) -> None:
        self._pool = pool
        self._listener = listener
        self._drain_seconds = drain_seconds
        self._stopping = threading.Event()
        self._alone = threading.Lock()
        self._clients = 0
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Serve; call it in the main thread, whose signals it takes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        accepting = threading.Thread(target=self._accept, name="accept", daemon=True)
        accepting.start()
        while not self._stopping.wait(HEALTH_SECONDS):
            self._pool.healthy()  # a thread that hangs ends this process
        deadline = time.monotonic() + self._drain_seconds
        while self._clients and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        self._pool.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()

    def _accept(self) -> None:
        """Accept until the end; then the next engine does, at the same socket."""
        self._listener.settimeout(0.0)
        ready = select.poll()
        ready.register(self._listener, select.POLLIN)
        while not self._stopping.is_set():
            if not ready.poll(1000 * LOOK_SECONDS):
                continue
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:  # the other engine took it
                continue
            connection.settimeout(None)
            threading.Thread(
                target=self._serve, args=[connection], name="client", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._clients += 1
        channel = Channel(connection)
        caller_left.set(channel.peer_left)
        try:
            channel.send({"pid": os.getpid()})
            while True:
                header, body = channel.receive()
                answer, vectors = self._answered(channel, header, body)
                channel.send(answer, vectors)
        except Closed:
            pass  # it has what it wanted, or gave up
        finally:
            channel.close()
            with self._lock:
                self._clients -= 1

    def _answered(
        self, channel: Channel, header: Mapping[str, Any], body: memoryview
    ) -> tuple[dict[str, Any], memoryview | bytes]:
        try:
            if header["op"] == "run":
                took: dict[str, float] = {}
                stages.set(took)
                vectors = self._run(channel, header, body)
                return {"shape": vectors.shape, "stages": took}, vectors.data
            if header["op"] == "state":
                return self._state(), b""
            if header["op"] == "report":
                return asdict(self._pool.state()), b""
            return {"value": self._tokens(header)}, b""
        except ProviderError as error:
            return wire.as_header(error), b""
        except Closed:
            raise
        except Exception:
            log.exception("engine_call_failed", op=header.get("op"))
            failure = ProviderUnavailable("The local engine failed.")
            return wire.as_header(failure), b""

    def _run(
        self, channel: Channel, header: Mapping[str, Any], body: memoryview
    ) -> Vectors:
        work = Work(
            model=header["model"],
            precision=header["precision"],
            revision=header["revision"],
            texts=header.get("texts", ()),
            prompt=header["prompt"],
        )
        rows = None if "texts" in header else _rows(header, body)
        run = partial(
            self._pool.run, work, rows=rows, timeout_seconds=header["timeout_seconds"]
        )
        if not header["again"]:
            return run()
        # An engine died while it had this. What did it is found if each runs alone.
        with self._alone:
            channel.send({"started": True})
            return run()

    def _tokens(self, header: Mapping[str, Any]) -> Any:
        tokenizer = self._pool.tokenizer(header["model"])
        if header["op"] == "count":
            return tokenizer.count(*header["given"])
        if header["op"] == "truncate":
            return tokenizer.truncate(*header["given"])
        try:
            return tokenizer.decode(*header["given"])
        except ValueError:
            return None

    def _state(self) -> dict[str, Any]:
        return {
            "loaded": self._pool.loaded_models(),
            "refused": self._pool.refusals(),
            "healthy": self._pool.healthy(),
        }


def serve_engine(
    options: Mapping[str, Any], listener: socket.socket, *, drain_seconds: float
) -> None:
    """Be the engine process, until SIGTERM. `options` are those of the local plug-ins."""
    import onnxruntime  # type: ignore[import-untyped]  # noqa: F401  -- it takes a moment, and the first call need not wait for it

    engine = EngineOptions.of(options)
    pool = Pool(weights_of(engine), limits_of(engine), on_hung=exit_hung)
    EngineServer(pool, listener, drain_seconds=drain_seconds).serve()


def exit_hung() -> None:
    """End this process at once: a thread of it hangs."""
    log.error("engine_hung", pid=os.getpid())
    os._exit(HUNG)


def _rows(header: Mapping[str, Any], body: memoryview) -> list[Row]:
    ids = np.frombuffer(body, np.int32).astype(np.int64)
    rows, start = [], 0
    for length in header["lengths"]:
        row = ids[start : start + length]
        rows.append(Row(row, "", prompt_tokens=header["prompt_tokens"]))
        start += length
    return rows
