"""The engine process as its clients see it: each call has a connection to itself, which the next call takes over."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from providers.base import Precision, Tokenizer, Vectors
from providers.engine.files import Manifest
from providers.engine.inference import EngineState, Work, checked_rows
from providers.engine.process import place, wire
from providers.engine.process.wire import Channel, Closed
from providers.engine.tokenizers import Tokenizers
from providers.exceptions import (
    Abandoned,
    EngineAway,
    EngineCrashed,
    EngineNotServed,
    ProviderTimeout,
    ProviderUnavailable,
)
from providers.stages import spent_in_turn
from providers.waiting import aside, caller_left

# How long a new engine may take to greet, and who asks only how things stand waits.
GREETING_SECONDS = 15.0
STATE_SECONDS = 2.0
LOOK_SECONDS = 1.0
# The engine itself answers at the deadline.
GRACE_SECONDS = 2.0
DEATH_SECONDS = 3.0
# To load a model that its own library tokenises for.
TOKENS_SECONDS = 120.0
RETRY_AFTER_SECONDS = 2.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Connection:
    """One connection, the process that opened it, and the engine process at its other end."""

    channel: Channel
    owner: int
    engine: int
    started: bool = False


class EngineClient:
    """Runs models in the engine process; see `Inference`. Tokenises here, but with large vocabularies and torch."""

    def __init__(self, path: Path, tokenizers: Tokenizers) -> None:
        self._path = path
        self._tokenizers = tokenizers
        self._idle: list[_Connection] = []  # append and pop are atomic

    def run(self, work: Work, *, timeout_seconds: float) -> Vectors:
        """See `Inference.run`. Raises EngineCrashed where the engine died of this very call, twice."""
        deadline = time.monotonic() + timeout_seconds
        header, body = self._call(work)
        try:
            answer = self._asked(header, body, deadline=deadline)
        except _Lost as first:
            log.warning("engine_lost", pid=first.connection.engine, model=work.model)
            try:
                answer = self._asked(header, body, deadline=deadline, again=True)
            except _Lost as second:
                raise self._crash(second.connection, work.model) from second
        header, vectors = answer
        spent_in_turn(header["stages"])
        return np.frombuffer(vectors, dtype=np.float32).reshape(header["shape"])

    def tokenizer(self, name: str) -> Tokenizer:
        read = self._tokenizers.get(name)
        return read.tokenizer if read else _EngineTokenizer(self, name)

    def loaded(self, name: str, precision: Precision) -> bool:
        return [name, precision] in self._state().get("loaded", [])

    def state(self) -> EngineState | None:
        said = self._said("report")
        return EngineState(**said) if said else None

    def refusal(self, name: str, precision: Precision) -> str | None:
        for *key, reason in self._state().get("refused", []):
            if key == [name, precision]:
                return str(reason)
        return None

    def healthy(self) -> bool:
        return bool(self._state().get("healthy"))

    def follow(self, name: str, manifest: Manifest) -> None:
        """Read the tokenizer again; the engine sees by itself that the files are others."""
        if self._tokenizers.replaced(name, manifest):
            self._tokenizers.forget(name)

    def close(self) -> None:
        """Close the connections that no call uses."""
        while self._idle:
            self._idle.pop().channel.close()

    def asked(self, header: Mapping[str, Any], *, timeout_seconds: float) -> Any:
        """Return the value of a call that the engine may be asked any number of times."""
        deadline = time.monotonic() + timeout_seconds
        try:
            return self._asked(header, b"", deadline=deadline)[0]
        except _Lost as error:
            raise _away() from error

    def _call(self, work: Work) -> tuple[dict[str, Any], memoryview | bytes]:
        header: dict[str, Any] = {
            "op": "run",
            "model": work.model,
            "precision": work.precision,
            "revision": work.revision,
            "prompt": work.prompt,
        }
        read = self._tokenizers.get(work.model)
        if read is None:
            return header | {"texts": list(work.texts)}, b""
        rows = checked_rows(read.prepared, read.tokenizer, work.texts, work.prompt)
        header["lengths"] = [len(row) for row in rows]
        header["prompt_tokens"] = rows[0].prompt_tokens
        ids = np.concatenate([row.token_ids for row in rows], dtype=np.int32)
        return header, ids.data

    def _asked(
        self,
        header: Mapping[str, Any],
        body: memoryview | bytes,
        *,
        deadline: float,
        again: bool = False,
    ) -> tuple[dict[str, Any], memoryview]:
        """Make one call. Raises ProviderError as the engine says it, or _Lost when the engine dies meanwhile."""
        connection = self._connected(deadline)
        channel = connection.channel
        left = caller_left.get()

        def wait() -> None:
            if left():
                raise Abandoned("The client closed the connection.")
            if time.monotonic() > deadline + GRACE_SECONDS:
                raise ProviderTimeout(
                    "The local engine did not answer before the deadline."
                )

        timing = {"timeout_seconds": max(deadline - time.monotonic(), 0.0)}
        try:
            channel.send({**header, **timing, "again": again}, body)
            with aside.get()():
                answer, vectors = channel.receive(wait=wait)
                if answer.get("started"):
                    connection.started = True
                    answer, vectors = channel.receive(wait=wait)
        except Closed as error:
            channel.close()
            raise _Lost(connection) from error
        except BaseException:
            channel.close()
            raise
        connection.started = False
        self._idle.append(connection)
        if "error" in answer:
            raise wire.as_error(answer)
        return answer, vectors

    def _connected(self, deadline: float) -> _Connection:
        """Return a connection that lives, opened if there is none. Raises ProviderUnavailable."""
        with contextlib.suppress(IndexError):
            while True:
                known = self._idle.pop()
                if known.owner == os.getpid() and not known.channel.peer_left():
                    return known
                known.channel.close()
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            opened.settimeout(LOOK_SECONDS)
            opened.connect(str(self._path))
            greeted_by = min(deadline, time.monotonic() + GREETING_SECONDS)
            channel = Channel(opened)
            greeting, _ = channel.receive(wait=_until(greeted_by))
        except BaseException as error:
            opened.close()
            if isinstance(error, FileNotFoundError | ConnectionRefusedError):
                raise EngineNotServed(
                    "The local engine's process is not running: start the server."
                ) from error
            if isinstance(error, OSError | Closed):
                raise _away() from error
            raise
        return _Connection(channel, os.getpid(), greeting["pid"])

    def _state(self) -> Mapping[str, Any]:
        return self._said("state")

    def _said(self, op: str) -> Mapping[str, Any]:
        """Return how the engine is; empty where it does not say."""
        try:
            said: Mapping[str, Any] = self.asked(
                {"op": op}, timeout_seconds=STATE_SECONDS
            )
        except (ProviderUnavailable, ProviderTimeout):
            return {}
        return said

    def _crash(self, lost: _Connection, model: str) -> Exception:
        """Return what to raise for a call in which the engine died a second time."""
        if lost.started and self._died_by_itself(lost.engine):
            log.error("engine_crashed_twice", pid=lost.engine, model=model)
            return EngineCrashed(
                "The local engine died of this request, twice. The log has its model and the time."
            )
        return _away()

    def _died_by_itself(self, pid: int) -> bool:
        """Whether the engine crashed or hung, rather than being stopped or killed from outside."""
        deadline = time.monotonic() + DEATH_SECONDS
        while (code := place.death_of(self._path.parent, pid)) is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return code not in place.STOPPED


class _EngineTokenizer:
    """A tokenizer that is in the engine's process."""

    def __init__(self, client: EngineClient, name: str) -> None:
        self._client = client
        self._name = name

    def count(self, texts: Sequence[str]) -> list[int]:
        counts: list[int] = self._asked("count", list(texts))
        return counts

    def truncate(self, text: str, max_tokens: int) -> str:
        return str(self._asked("truncate", text, max_tokens))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Raises ValueError for an id outside the vocabulary."""
        text: str | None = self._asked("decode", list(token_ids))
        if text is None:
            raise ValueError("A token id lies outside the model's vocabulary.")
        return text

    def _asked(self, op: str, *given: Any) -> Any:
        header = {"op": op, "model": self._name, "given": given}
        return self._client.asked(header, timeout_seconds=TOKENS_SECONDS)["value"]


class _Lost(Exception):
    """The engine died, or was ended, while it had a call."""

    def __init__(self, connection: _Connection) -> None:
        super().__init__("The local engine's process ended.")
        self.connection = connection


def _until(deadline: float) -> Callable[[], None]:
    def wait() -> None:
        if time.monotonic() > deadline:
            raise _away()

    return wait


def _away() -> EngineAway:
    return EngineAway(
        "The local engine is being started again.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
