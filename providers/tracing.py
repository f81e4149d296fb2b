"""The steps of a request, for its trace: kept only where somebody asked for one. Standard library only.

Whoever takes a request opens its trace (`opened`); what serves it opens further steps inside (`step`). Where there is
no trace, a step costs one look at a context variable.
"""

import contextlib
import functools
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

Kind = Literal["internal", "client", "server"]
Attributes = dict[str, str | int | float | bool | Sequence[str]]

# Of one trace, so that a request of very many upstream calls stays small.
MAX_STEPS = 200


@dataclass(slots=True)
class Step:
    """One span. Times are of `time.perf_counter`; `error`: why it failed, one word, empty if it did not."""

    name: str
    parent_id: int
    trace: "Trace" = field(repr=False)
    kind: Kind = "internal"
    span_id: int = field(default_factory=lambda: new_id(64))
    began: float = field(default_factory=time.perf_counter)
    ended: float = 0.0
    attributes: Attributes = field(default_factory=dict)
    error: str = ""


class Trace:
    """What one request did. `steps`: those that ended, the first one (`root`) last.

    `trace_id` is 0 where only metrics are made of them. `sampled`: whether they are sent. `state`: the header
    `tracestate`, passed on as it came.
    """

    __slots__ = ("at", "began", "dropped", "root", "sampled", "state", "steps", "trace_id")  # fmt: skip

    def __init__(
        self,
        name: str,
        *,
        trace_id: int,
        parent_id: int = 0,
        sampled: bool = True,
        state: str = "",
        kind: Kind = "internal",
    ) -> None:
        self.trace_id, self.sampled, self.state = trace_id, sampled, state
        self.at, self.began = time.time(), time.perf_counter()
        self.steps: list[Step] = []
        self.dropped = 0
        self.root = Step(name, parent_id, self, kind, began=self.began)

    def wall_time(self, moment: float) -> float:
        """Return the seconds since 1970 of a moment of `time.perf_counter`."""
        return self.at + moment - self.began

    def add(self, step: Step) -> None:
        """Keep a step that ended."""
        if len(self.steps) < MAX_STEPS or step is self.root:
            self.steps.append(step)
        else:
            self.dropped += 1


under_way: ContextVar[Step | None] = ContextVar("step", default=None)
_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


def step(name: str, kind: Kind = "internal") -> AbstractContextManager[Step | None]:
    """Do something as a step of the one under way; gives None where no trace is kept."""
    parent = under_way.get()
    if parent is None:
        return _NOTHING
    return opened(Step(name, parent.span_id, parent.trace, kind))


class opened:  # noqa: N801  (used like a function)
    """Keep `step` as the one under way, and end it: with the error's reason where one comes out of it."""

    __slots__ = ("_before", "_step")

    def __init__(self, step: Step) -> None:
        self._step = step

    def __enter__(self) -> Step:
        self._before = under_way.set(self._step)
        return self._step

    def __exit__(
        self, kind: object, error: BaseException | None, frames: object
    ) -> None:
        under_way.reset(self._before)
        step = self._step
        step.ended = time.perf_counter()
        if error is not None and not step.error:
            step.error = reason_of(error)
        step.trace.add(step)


def took_in_turn(stages: Mapping[str, float]) -> None:
    """Add steps that followed each other and have just ended: their seconds by name, in order."""
    parent = under_way.get()
    if parent is None:
        return
    trace = parent.trace
    began = time.perf_counter() - sum(stages.values())
    for name, seconds in stages.items():
        done = Step(name, parent.span_id, trace, began=began, ended=began + seconds)
        trace.add(done)
        began = done.ended


def note(attributes: Attributes) -> None:
    """Describe the step under way."""
    current = under_way.get()
    if current is not None:
        current.attributes.update(attributes)


def failed(error: BaseException) -> None:
    """Note why the step under way fails, where nobody above sees the error."""
    current = under_way.get()
    if current is not None:
        current.error = reason_of(error)


def headers() -> dict[str, str]:
    """Return the headers by which the next server continues this trace: W3C Trace Context."""
    current = under_way.get()
    if current is None or not current.trace.trace_id:
        return {}
    trace = current.trace
    flags = "01" if trace.sampled else "00"
    named = f"00-{trace.trace_id:032x}-{current.span_id:016x}-{flags}"
    state = {"tracestate": trace.state} if trace.state else {}
    return {"traceparent": named, **state}


@functools.lru_cache(256)
def server_of(address: str) -> Attributes:
    """Return the host and port of a URL: its path, user and password stay here."""
    try:
        parts = urlsplit(address)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return {}
    if not parts.hostname:
        return {}
    return {"server.address": parts.hostname, "server.port": port}


def called(address: str, *, resent: int) -> Attributes:
    """Return what describes the POST to an upstream: `resent`, how many came before it."""
    repeated: Attributes = {"http.request.resend_count": resent} if resent else {}
    return {"http.request.method": "POST", **server_of(address), **repeated}


def reason_of(error: BaseException) -> str:
    """Return the constant word for an error: that of a provider's failure, else its class."""
    return getattr(error, "reason", None) or type(error).__name__


def new_id(bits: int) -> int:
    """Return an id, which is never 0."""
    return random.getrandbits(bits) or 1
