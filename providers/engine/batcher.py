"""One queue and its engine threads: texts of all requests become batches while the last batch runs.

Batches are cut by padded tokens and hold texts of like length. There is no timer: an idle engine runs what is there.
Requests share the engine by weighted fair queueing (Demers, Keshav, Shenker 1989): each carries a virtual time that
grows by the padded tokens run for it, the lowest goes next, and a new one starts at the queue's own virtual time. So a
short text waits for the run under way and no longer, and many short ones cannot starve a long request.
"""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from providers.base import Vectors
from providers.engine.runtime import Row, Runtime
from providers.exceptions import (
    Overloaded,
    ProviderError,
    ProviderMalformed,
    ProviderTimeout,
    ProviderUnavailable,
)

# Measured with MiniLM on two cores: 256 to 1024 are equally fast in bulk within the noise, while a single text beside a
# bulk request waits 46 ms (median) with 256 and 125 ms with 512.
BATCH_TOKENS = 256
# Several requests of 2048 texts of 256 tokens.
QUEUE_TOKENS = 4 * 2048 * 256
_LOOK_AGAIN_SECONDS = 1.0
_FIRST_GUESS_TOKENS_PER_SECOND = 2000.0
Clock = Callable[[], float]
# Told how long a stage took: "queue" a request until its first text runs, "infer" one run.
Observe = Callable[[str, float], None]


@dataclass(slots=True, eq=False)
class _Request:
    """One submit's texts on their way. `waiting` holds (length, index), shortest first; `tokens` is their sum."""

    rows: Sequence[Row]
    enqueued_at: float
    deadline: float
    virtual_time: float
    waiting: list[tuple[int, int]]
    tokens: int
    vectors: list[Vectors | None]
    unfinished: int
    error: ProviderError | None = None
    cause: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def fail(self, error: ProviderError, cause: BaseException | None = None) -> None:
        if not self.done.is_set():
            self.error, self.cause = error, cause
            self.done.set()


_Batch = list[tuple[_Request, int]]


class Batcher:
    """Shares one runtime between threads that submit. Times are of `clock`, in seconds."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        batch_tokens: int = BATCH_TOKENS,
        queue_tokens: int = QUEUE_TOKENS,
        engine_threads: int = 1,
        hung_after_seconds: float = 60.0,
        clock: Clock = time.monotonic,
        observe: Observe = lambda stage, seconds: None,
    ) -> None:
        self._runtime = runtime
        self._observe = observe
        self._batch_tokens = batch_tokens
        self._queue_tokens = queue_tokens
        self._hung_after_seconds = hung_after_seconds
        self._clock = clock
        self._changed = threading.Condition()
        self._requests: list[_Request] = []
        self._queued = 0
        self._virtual_time = 0.0
        self._tokens_per_second = _FIRST_GUESS_TOKENS_PER_SECOND
        self._running: dict[int, float] = {}
        self._closed = False
        self._threads: list[threading.Thread | None] = [None] * engine_threads

    @property
    def queued_tokens(self) -> int:
        """Tokens of texts that no run has taken yet."""
        return self._queued

    def submit(self, rows: Sequence[Row], *, deadline: float) -> Vectors:
        """Run `rows`; return float32 (len(rows), dimensions) in their order.

        Raises Overloaded at once if the queue is full, ProviderTimeout when the deadline passes, or a ProviderError
        with the runtime's own exception as its cause.
        """
        request = self._enqueue(rows, deadline)
        while not request.done.wait(
            min(max(deadline - self._clock(), 0.0), _LOOK_AGAIN_SECONDS)
        ):
            with self._changed:
                if self._clock() >= deadline:
                    self._drop(
                        request,
                        ProviderTimeout(
                            "The local engine did not answer before the deadline."
                        ),
                    )
                elif not self._closed:
                    self._start_threads()
        if request.error is not None:
            # A new exception per waiter: one object raised in several threads would mix their tracebacks.
            raise type(request.error)(request.error.message) from request.cause
        return np.stack([vector for vector in request.vectors if vector is not None])

    def healthy(self) -> bool:
        """Tell whether the engine runs: open, and no run under way for longer than `hung_after_seconds`."""
        with self._changed:
            limit = self._clock() - self._hung_after_seconds
            return not self._closed and all(
                started > limit for started in self._running.values()
            )

    def close(self, *, timeout_seconds: float = 5.0) -> None:
        """Stop: queued requests fail, the runs under way end, the threads end."""
        with self._changed:
            self._closed = True
            for request in list(self._requests):
                self._drop(
                    request, ProviderUnavailable("The local engine is shutting down.")
                )
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not None and thread is not threading.current_thread():
                thread.join(timeout_seconds)

    def _enqueue(self, rows: Sequence[Row], deadline: float) -> _Request:
        waiting = sorted((len(row), index) for index, row in enumerate(rows))
        tokens = sum(length for length, _ in waiting)
        with self._changed:
            if self._closed:
                raise ProviderUnavailable("The local engine is shutting down.")
            request = _Request(
                rows,
                self._clock(),
                deadline,
                self._virtual_time,
                waiting,
                tokens,
                [None] * len(rows),
                len(rows),
            )
            # An idle engine takes any request: one that is larger than the whole queue must not fail for ever.
            if self._queued and self._queued + tokens > self._queue_tokens:
                seconds = max(self._queued / self._tokens_per_second, 1.0)
                raise Overloaded(
                    "The local engine's queue is full.",
                    retry_after_seconds=round(seconds, 1),
                )
            self._queued += tokens
            self._requests.append(request)
            self._start_threads()
            self._changed.notify()
        return request

    def _start_threads(self) -> None:
        """Start engine threads that are not there, be it for the first time or after one died."""
        for slot, thread in enumerate(self._threads):
            if thread is None or not thread.is_alive():
                started = threading.Thread(
                    target=self._serve, name=f"engine-{slot}", daemon=True
                )
                self._threads[slot] = started
                started.start()

    def _serve(self) -> None:
        while (batch := self._take()) is not None:
            started = self._clock()
            try:
                self._run(batch)
            finally:
                self._finished(batch, self._clock() - started)

    def _take(self) -> _Batch | None:
        """Wait for work and return a batch; None when closed."""
        with self._changed:
            while not self._closed:
                self._drop_late()
                if self._requests:
                    batch = self._next_batch()
                    self._running[threading.get_ident()] = self._clock()
                    return batch
                self._changed.wait()
            return None

    def _run(self, batch: _Batch) -> None:
        rows = [request.rows[index] for request, index in batch]
        try:
            vectors = self._runtime.run(rows)
            _check(vectors, len(rows))
        except ProviderError as error:
            _fail(batch, error, error.__cause__ or error)
        except Exception as error:
            _fail(
                batch, ProviderUnavailable("The local engine failed in a run."), error
            )
        except BaseException as error:
            _fail(
                batch,
                ProviderUnavailable("The local engine's thread was stopped."),
                error,
            )
            raise
        else:
            for (request, index), vector in zip(batch, vectors, strict=True):
                request.vectors[index] = vector

    def _finished(self, batch: _Batch, seconds: float) -> None:
        with self._changed:
            self._running.pop(threading.get_ident(), None)
            self._observe("infer", seconds)
            if seconds > 0:
                rate = (
                    sum(len(request.rows[index]) for request, index in batch) / seconds
                )
                self._tokens_per_second += 0.2 * (rate - self._tokens_per_second)
            for request, _ in batch:
                request.unfinished -= 1
                if request.error is not None:
                    self._drop(request, request.error)
                elif request.unfinished == 0:
                    request.done.set()

    def _drop(self, request: _Request, error: ProviderError) -> None:
        """Take a request out of the queue and end its waiter's wait; `_changed` is held."""
        if request in self._requests:
            self._requests.remove(request)
            self._queued -= request.tokens
            request.waiting.clear()
        request.fail(error)

    def _drop_late(self) -> None:
        now = self._clock()
        for request in [
            request for request in self._requests if request.deadline <= now
        ]:
            self._drop(
                request,
                ProviderTimeout("The local engine did not answer before the deadline."),
            )

    def _next_batch(self) -> _Batch:
        """Cut a batch: the longest texts of the request whose turn it is, filled up with others' of like length."""
        active = len(self._requests)
        first = min(self._requests, key=lambda request: request.virtual_time)
        longest = first.waiting[-1][0]
        room = max(self._batch_tokens // max(longest, 1), 1)
        batch: _Batch = []
        bulk = first.tokens > self._batch_tokens
        for request in sorted(
            self._requests,
            key=lambda request: (request is not first, request.virtual_time),
        ):
            # A bulk request does not ride along with a small one: it would make that wait for a full batch.
            if request is first or bulk or request.tokens <= self._batch_tokens:
                batch += self._pull(request, longest, room - len(batch))
            if len(batch) == room:
                break
        self._virtual_time += longest * len(batch) / active
        self._requests = [request for request in self._requests if request.waiting]
        return batch

    def _pull(self, request: _Request, longest: int, count: int) -> _Batch:
        """Take up to `count` texts between half of `longest` and `longest` tokens, the longest first."""
        end = bisect_right(request.waiting, (longest, len(request.rows)))
        start = max(bisect_right(request.waiting, (longest // 2, -1)), end - count)
        taken = request.waiting[start:end]
        if taken and len(request.waiting) == len(request.rows):
            self._observe("queue", self._clock() - request.enqueued_at)
        del request.waiting[start:end]
        tokens = sum(length for length, _ in taken)
        request.tokens -= tokens
        self._queued -= tokens
        request.virtual_time += longest * len(taken)
        return [(request, index) for _, index in reversed(taken)]


def _fail(batch: _Batch, error: ProviderError, cause: BaseException) -> None:
    for request, _ in batch:
        request.fail(error, cause)


def _check(vectors: Vectors, expected: int) -> None:
    if vectors.ndim != 2 or len(vectors) != expected:
        raise ProviderMalformed(
            "The model answered with another number of vectors than texts."
        )
    if not np.isfinite(vectors).all():
        raise ProviderMalformed("The model answered with numbers that are not finite.")
