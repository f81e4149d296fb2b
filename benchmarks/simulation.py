"""What a node answers, by simulation: web processes, engine lanes and clients share the cores.

A discrete-event simulation with processor sharing: each web process works at one request at a time (Python's lock),
each lane of the engine at one run, which takes all texts that wait, shared with the lanes that are free. Each at work
has a core, or its share of the cores where there are fewer. Times in seconds.
"""

import itertools
import random
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from benchmarks.figures import percentile

BEFORE_ENGINE = 0.5  # of a web process's work at a request
WARM_UP = 0.2  # of the time that is simulated: not counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Processor time: of a web process a request, of the engine a run and a text, of the client a request."""

    web: float
    run: float = 0.0
    text: float = 0.0
    client: float = 0.0
    texts_a_run: int = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """Requests answered a second, and how long half and all but one in a hundred took at most."""

    per_second: float
    p50: float
    p99: float


@dataclass(slots=True, eq=False)
class _Request:
    client: int
    web: int
    started: float


@dataclass(slots=True)
class _Worker:
    """Something that does one thing at a time: what waits for it, and what is left of what it does."""

    waiting: deque[tuple[float, Callable[[], None]]] = field(default_factory=deque)
    left: float = 0.0
    then: Callable[[], None] | None = None

    def take(self) -> None:
        if self.then is None and self.waiting:
            self.left, self.then = self.waiting.popleft()


class Node:
    """A node under load: `clients` that send their next request as they have an answer, or `rate` requests a second."""

    def __init__(
        self,
        costs: Costs,
        *,
        cores: int,
        web: int,
        clients: int = 0,
        rate: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._costs, self._cores, self._rate = costs, cores, rate
        self._draw = random.Random(seed)
        self._workers: dict[Hashable, _Worker] = {
            name: _Worker()
            for name in (
                *("client", *(("web", number) for number in range(web))),
                *(("lane", number) for number in range(cores + 1)),
            )
        }
        self._web = web
        self._texts: deque[_Request] = deque()
        self._now = 0.0
        self._done: list[tuple[float, float]] = []  # when, how long
        self._closed = bool(clients)
        for client in range(clients):
            self._send(client)

    def run(self, seconds: float) -> Simulated:
        """Simulate so many seconds."""
        arrival = self._draw.expovariate(self._rate) if self._rate else float("inf")
        arrivals = itertools.count()
        while self._now < seconds:
            self._dispatch()
            at_work = [
                worker for worker in self._workers.values() if worker.then is not None
            ]
            speed = min(1.0, self._cores / len(at_work)) if at_work else 1.0
            least = min((worker.left for worker in at_work), default=float("inf"))
            step = min(least / speed, arrival - self._now)
            self._now += step
            for worker in at_work:
                worker.left -= step * speed
            for worker in at_work:
                if worker.left <= 1e-12 and (then := worker.then) is not None:
                    worker.then = None
                    then()
            if self._now >= arrival:
                self._send(next(arrivals))
                arrival = self._now + self._draw.expovariate(self._rate)
        took = [took for at, took in self._done if at > WARM_UP * seconds]
        return Simulated(
            per_second=len(took) / (seconds * (1 - WARM_UP)),
            p50=percentile(took, 0.5),
            p99=percentile(took, 0.99),
        )

    def _send(self, client: int) -> None:
        request = _Request(client, client % self._web, self._now)
        self._work("client", self._costs.client, lambda: self._read(request))

    def _read(self, request: _Request) -> None:
        seconds = self._costs.web * BEFORE_ENGINE
        self._work(("web", request.web), seconds, lambda: self._embed(request))

    def _embed(self, request: _Request) -> None:
        if self._costs.text:
            self._texts.append(request)
        else:
            self._answer(request)

    def _answer(self, request: _Request) -> None:
        seconds = self._costs.web * (1 - BEFORE_ENGINE)
        self._work(("web", request.web), seconds, lambda: self._end(request))

    def _end(self, request: _Request) -> None:
        self._done.append((self._now, self._now - request.started))
        if self._closed:
            self._send(request.client)

    def _work(self, name: Hashable, seconds: float, then: Callable[[], None]) -> None:
        self._workers[name].waiting.append((seconds, then))

    def _dispatch(self) -> None:
        for name, worker in self._workers.items():
            if self._texts and isinstance(name, tuple) and name[0] == "lane":
                self._start_run(worker)
            worker.take()

    def _start_run(self, lane: _Worker) -> None:
        if lane.then is not None:
            return
        free = sum(
            worker.then is None
            for name, worker in self._workers.items()
            if isinstance(name, tuple) and name[0] == "lane"
        )
        count = min(-(-len(self._texts) // free), self._costs.texts_a_run)
        batch = [self._texts.popleft() for _ in range(count)]
        seconds = self._costs.run + self._costs.text * count
        lane.waiting.append((seconds, lambda: self._answer_all(batch)))

    def _answer_all(self, batch: list[_Request]) -> None:
        for request in batch:
            self._answer(request)
