"""The record of one request, from its start to its end: what charts and the log of requests are made of.

Whoever takes a request opens its record (`under_way`); what serves it fills it in; whoever opened it hands it to the
ledger. Work that nobody opened a record for, such as a probe, leaves none.
"""

import time
from contextvars import ContextVar
from dataclasses import dataclass, field

from embeddings.services import request_metrics
from embeddings.services.callers import Caller
from embeddings.services.types import EmbeddingResult, Target
from providers import tracing
from providers.stages import stages
from providers.tracing import Trace


@dataclass(slots=True)
class Event:
    """One request. `asked` and `provider`, `model`: what it asked for, and what answered; by names of registries.

    `member`: who answered of the provider's pool. `endpoint`: method and route, or what else began it. `code`: of the
    error, empty where there was none. `cost` in units of 10^-10 US dollars. `stages`: seconds by stage; what is left
    of `seconds` is HTTP's and the cache's. `trace`: what happened in which order, where that is sent to a collector.
    """

    endpoint: str = ""
    at: float = field(default_factory=time.time)
    began: float = field(default_factory=time.perf_counter)
    request_id: str = ""
    caller: Caller | None = None
    status: int = 200
    code: str = ""
    asked: str = ""
    provider: str = ""
    model: str = ""
    member: str = ""
    texts: int = 0
    tokens: int = 0
    cache_hits: int = 0
    cost: int = 0
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    trace: Trace | None = None

    def answered(self, requested: Target, result: EmbeddingResult) -> None:
        """Note what answered, and with how much work."""
        answered = result.target
        self.provider = answered.provider.name
        self.model = result.name
        self.member = result.member
        same = answered is requested
        self.asked = f"{self.provider}:{self.model}" if same else asked(requested)
        self.texts = len(result.vectors)
        self.tokens, self.cost = result.prompt_tokens, result.cost
        self.cache_hits = result.cache_hits

    @property
    def outcome(self) -> str:
        """Return how it ended: empty if it was answered, else the status, and the code where there is one."""
        if self.status < 400:
            return ""
        return f"{self.status} {self.code}".rstrip()


under_way: ContextVar[Event | None] = ContextVar("event", default=None)


def asked(target: Target) -> str:
    """Return the name under which requests for a target are counted."""
    return f"{target.provider.name}:{request_metrics.model_label(target)}"


def note_error(code: str | None) -> None:
    """Note the code of the error that the request under way is answered with."""
    event = under_way.get()
    if event is not None and code:
        event.code = code


class opened:  # noqa: N801  (used like a function)
    """Keep `event` as the record of what this thread does meanwhile, and end it."""

    __slots__ = ("_before", "_event", "_step")

    def __init__(self, event: Event) -> None:
        self._event = event

    def __enter__(self) -> Event:
        event = self._event
        self._before = under_way.set(event), stages.set(event.stages)
        self._step = tracing.opened(event.trace.root) if event.trace else None
        if self._step:
            self._step.__enter__()
        return event

    def __exit__(
        self, kind: object, error: BaseException | None, frames: object
    ) -> None:
        if self._step:
            self._step.__exit__(kind, error, frames)
        under_way.reset(self._before[0])
        stages.reset(self._before[1])
        self._event.seconds = time.perf_counter() - self._event.began
