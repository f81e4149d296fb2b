"""The engine's threads: texts of all requests become batches while the last batches run.

There is no timer: an idle engine runs what is there. Bulk lanes, one per core, each run batches on one core, which
gives more in all than one batch on all cores. The express lane takes small requests only; its thread comes before
those of bulk lanes at the operating system's scheduler, so a short text runs at once, however much bulk is under way.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from providers.base import Vectors
from providers.engine.machine import name_thread, yield_to_others
from providers.engine.queue import Batch, Queue, Request
from providers.engine.runtime import Row, Runtime, check_vectors
from providers.exceptions import (
    Abandoned,
    EngineClosed,
    Overloaded,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    bare_copy,
)
from providers.stages import spent_in_turn
from providers.waiting import aside, caller_left

# Padded tokens of a run: measured with MiniLM, in bulk 512 is best and 256 a little worse.
BATCH_TOKENS = 512
# A request of up to so many tokens is interactive: a query, a paragraph or two.
SMALL_TOKENS = 256
# Several requests of 2048 texts of 256 tokens.
QUEUE_TOKENS = 4 * 2048 * 256
# A batch is cut smaller to give idle lanes something to do, but not so small that a run's fixed cost shows.
_LEAST_BATCH_TOKENS = 64
_BULK_NICENESS = 10
_LOOK_AGAIN_SECONDS = 1.0
_REST_AFTER_SECONDS = 1.0
_FIRST_GUESS_TOKENS_PER_SECOND = 2000.0
# A run hangs once it takes so many times as long as one of its size usually does, and `hung_after_seconds` at least.
_PATIENCE = 20.0
# Threads that hang hold memory for ever: beyond so many the engine stays degraded.
_MAX_REPLACED = 8
Clock = Callable[[], float]
# Called with how long a stage took: "queue" a request until its first text runs, "infer" one run.
Observe = Callable[[str, float], None]
# Called with each batch: its tokens as a share of the largest, how long its first text waited.
NoteBatch = Callable[[float, float], None]


@dataclass(slots=True, eq=False)
class _Lane:
    """One engine thread's place. A thread that finds another in its place ends."""

    name: str
    express: bool
    thread: threading.Thread | None = None
    batch: Batch | None = None
    tokens: int = 0
    started_at: float = 0.0


class Batcher:
    """Shares one runtime between threads that submit. Times are of `clock`, in seconds."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        batch_tokens: int = BATCH_TOKENS,
        small_tokens: int = SMALL_TOKENS,
        queue_tokens: int = QUEUE_TOKENS,
        square_tokens: float = math.inf,
        bulk_lanes: int = 1,
        express: bool = True,
        hung_after_seconds: float = 60.0,
        on_hung: Callable[[], None] | None = None,
        clock: Clock = time.monotonic,
        processor_clock: Clock = time.thread_time,
        observe: Observe = lambda stage, seconds: None,
        note_queued: Callable[[int], None] = lambda tokens: None,
        note_batch: NoteBatch = lambda fill, waited: None,
    ) -> None:
        self._runtime = runtime
        self._observe = observe
        self._note_batch = note_batch
        self._batch_tokens = batch_tokens
        self._small_tokens = small_tokens
        self._queue_tokens = queue_tokens
        self._hung_after_seconds = hung_after_seconds
        self._on_hung = on_hung
        self._clock, self._processor_clock = clock, processor_clock
        self._lock = threading.Lock()
        self._bulk_ready = threading.Condition(self._lock)
        self._express_ready = threading.Condition(self._lock)
        self._queue = Queue(
            small_tokens=small_tokens, square_tokens=square_tokens, note=note_queued
        )
        self._tokens_per_second = _FIRST_GUESS_TOKENS_PER_SECOND
        self._closed = False
        self._replaced = 0
        # Bulk ran, and the runtime was not asked to release its threads.
        self._stretched = False
        self._used_at = clock()
        self._lanes = [_Lane(f"engine-{n}", express=False) for n in range(bulk_lanes)]
        if express:
            self._lanes.append(_Lane("engine-express", express=True))
        # A caller's own thread runs a small request where nothing else runs: that saves two changes of threads. Only
        # where a hung run ends the process, since no other can take that thread's place.
        self._direct = _Lane("direct", express=True)
        self._places = [*self._lanes, self._direct]
        self._runs_at_once = express and on_hung is not None

    @property
    def queued_tokens(self) -> int:
        """Tokens of texts that no run has taken yet."""
        return self._queue.tokens

    def submit(self, rows: Sequence[Row], *, deadline: float) -> Vectors:
        """Run `rows`; return float32 (len(rows), dimensions) in their order.

        Raises Overloaded at once if the queue is full, ProviderTimeout when the deadline passes, Abandoned when the
        caller leaves, or a ProviderError with the runtime's own exception as its cause.
        """
        request = self._enqueue(rows, deadline)
        if request.at_once is not None:
            self._do(self._direct, request.at_once, wide=True)
            request.at_once = None
            with self._lock:
                if len(self._queue):  # what came meanwhile, or was too long
                    self._wake(small=True)
        left = caller_left.get()
        while not self._is_done(request, deadline):
            gone = left()
            with self._lock:
                self._look_after_lanes()
                if gone:
                    self._drop(request, Abandoned("The client closed the connection."))
                elif self._clock() >= deadline:
                    self._drop(request, _late())
        if request.error is not None:
            raise bare_copy(request.error) from request.cause
        began = request.started_at or request.enqueued_at
        spent_in_turn(
            {"queue": began - request.enqueued_at, "infer": self._clock() - began}
        )
        return np.stack([vector for vector in request.vectors if vector is not None])

    def _is_done(self, request: Request, deadline: float) -> bool:
        """Wait a moment for the end of a request."""
        patience = min(max(deadline - self._clock(), 0.0), _LOOK_AGAIN_SECONDS)
        with aside.get()():
            return request.done.wait(patience)

    def healthy(self) -> bool:
        """Whether the engine runs: open, and no run under way for longer than `hung_after_seconds`.

        A thread that hangs is replaced, so that the next answer may be better.
        """
        with self._lock:
            hung = any(map(self._hung, self._places))
            self._look_after_lanes()
            return not self._closed and not hung and self._replaced < _MAX_REPLACED

    def idle_seconds(self) -> float:
        """Return for how long nothing ran or waited; 0 while something does."""
        with self._lock:
            idle = self._alone(None)
            return self._clock() - self._used_at if idle else 0.0

    def close_if_idle(self, seconds: float) -> bool:
        """Close, and tell so, if nothing ran or waited for that long."""
        if self.idle_seconds() < seconds:
            return False
        with self._lock:
            if not self._alone(None):
                return False
            self._closed = True
        self.close()
        return True

    def close(self, *, timeout_seconds: float = 5.0) -> None:
        """Stop: queued requests fail, the runs under way end, the threads end."""
        with self._lock:
            self._closed = True
            for request in self._queue.requests():
                self._drop(request, EngineClosed("The local engine is shutting down."))
            self._bulk_ready.notify_all()
            self._express_ready.notify_all()
        for lane in self._lanes:
            if lane.thread and lane.thread is not threading.current_thread():
                lane.thread.join(timeout_seconds)

    def _enqueue(self, rows: Sequence[Row], deadline: float) -> Request:
        request = Request(rows, self._clock(), deadline)
        with self._lock:
            if self._closed:
                raise EngineClosed("The local engine is shutting down.")
            # An idle engine takes any request: one that is larger than the whole queue must not fail for ever.
            waiting = self._queue.tokens
            if waiting and waiting + request.tokens > self._queue_tokens:
                seconds = max(waiting / self._tokens_per_second, 1.0)
                raise Overloaded(
                    "The local engine's queue is full.",
                    retry_after_seconds=round(seconds, 1),
                )
            at_once = self._runs_at_once and self._alone(None)
            self._queue.add(request)
            self._look_after_lanes()
            if at_once and request.small:
                request.at_once = self._next_batch(self._direct)
                self._direct.batch = request.at_once
                self._direct.started_at = self._clock()
            else:
                self._wake(small=request.small)
        return request

    def _wake(self, *, small: bool) -> None:
        """Wake who should run it: the express lane if it can and is free, else bulk lanes."""
        if small and any(lane.express and lane.batch is None for lane in self._lanes):
            self._express_ready.notify()
        elif small:
            self._bulk_ready.notify()
        else:
            self._bulk_ready.notify_all()

    def _look_after_lanes(self) -> None:
        """Start threads that are not there, for the first time or after one died, and replace those that hang."""
        if self._closed:
            return
        if self._on_hung is not None and any(map(self._hung, self._places)):
            self._on_hung()
        for lane in self._lanes:
            if self._hung(lane) and self._replaced < _MAX_REPLACED:
                self._replaced += 1
                _fail(lane.batch or [], ProviderUnavailable("The local engine hung."))
                lane.thread, lane.batch = None, None
            if lane.thread is None or not lane.thread.is_alive():
                lane.batch = None
                lane.thread = threading.Thread(
                    target=self._serve, args=[lane], name=lane.name, daemon=True
                )
                lane.thread.start()

    def _hung(self, lane: _Lane) -> bool:
        if lane.batch is None:
            return False
        usual = lane.tokens / self._tokens_per_second
        limit = max(self._hung_after_seconds, _PATIENCE * usual)
        return self._clock() - lane.started_at >= limit

    def _serve(self, lane: _Lane) -> None:
        name_thread(lane.name)
        if not lane.express:
            yield_to_others(_BULK_NICENESS)
        while (taken := self._take(lane)) is not None:
            batch, wide = taken
            if not batch:
                self._runtime.rest()
                continue
            self._do(lane, batch, wide=wide)
            del taken, batch  # while this thread waits, it holds nobody's texts

    def _do(self, lane: _Lane, batch: Batch, *, wide: bool) -> None:
        started = self._clock()
        try:
            self._run(batch, wide=wide)
        finally:
            self._finished(lane, batch, self._clock() - started)
            del batch  # as in `_run`

    def _take(self, lane: _Lane) -> tuple[Batch, bool] | None:
        """Wait for work and return a batch, and whether it may use all cores; None when this thread must end.

        An empty batch means that bulk is over for a while, and the runtime may give back what it took for that.
        """
        with self._lock:
            ready = self._express_ready if lane.express else self._bulk_ready
            while not self._closed and lane.thread is threading.current_thread():
                self._drop_late()
                batch = self._next_batch(lane)
                if len(self._queue):  # the other kind of lane may have to take the rest
                    other = self._bulk_ready if lane.express else self._express_ready
                    other.notify()
                if batch:
                    lane.batch, lane.started_at = batch, self._clock()
                    self._stretched = self._stretched or not lane.express
                    return batch, self._alone(lane)
                woken = ready.wait(_REST_AFTER_SECONDS if self._stretched else None)
                if not woken and self._stretched and self._alone(lane):
                    self._stretched = False
                    return [], False
            return None

    def _next_batch(self, lane: _Lane) -> Batch:
        if lane.express:
            batch = self._queue.next_batch(self._small_tokens, small=True, bulk=False)
        else:
            # A small request is left to the express lane, if that is free: it is on its way to take it.
            express_free = any(
                other.express and not other.batch for other in self._lanes
            )
            batch = self._queue.next_batch(
                self._bulk_budget(), small=not express_free, bulk=True
            )
        now = self._clock()
        for request, _ in batch:
            if request.started_at is None:
                request.started_at = now
                self._observe("queue", now - request.enqueued_at)
        if batch:
            lane.tokens = sum(len(request.rows[index]) for request, index in batch)
            waited = now - batch[0][0].enqueued_at
            self._note_batch(lane.tokens / self._batch_tokens, waited)
        return batch

    def _bulk_budget(self) -> int:
        """Return the padded tokens of the next batch: what is there is shared with lanes that have nothing to do."""
        free = sum(not lane.express and lane.batch is None for lane in self._lanes)
        share = self._queue.tokens // max(free, 1)  # the asking lane is one of them
        return min(self._batch_tokens, max(share, _LEAST_BATCH_TOKENS))

    def _alone(self, lane: _Lane | None) -> bool:
        """Whether nothing waits, and nothing runs but in `lane`."""
        return not len(self._queue) and all(
            other is lane or other.batch is None for other in self._places
        )

    def _run(self, batch: Batch, *, wide: bool) -> None:
        rows = [request.rows[index] for request, index in batch]
        try:
            began = self._processor_clock()
            vectors = self._runtime.run(rows, wide=wide)
            took = self._processor_clock() - began
            check_vectors(vectors, len(rows))
        except ProviderError as error:
            _fail(batch, bare_copy(error), error.__cause__ or error)
        except Exception as error:
            failed = ProviderUnavailable("The local engine failed in a run.")
            _fail(batch, failed, error)
        except BaseException:
            _fail(batch, ProviderUnavailable("The local engine's thread was stopped."))
            raise
        else:
            for (request, index), vector in zip(batch, vectors, strict=True):
                request.vectors[index] = vector
            padded = len(rows) * max(map(len, rows))
            # All of it was in this thread, and no long text's attention is in it.
            if not wide and padded <= self._batch_tokens:
                with self._lock:
                    self._queue.run_cost.note(padded, took)
        finally:
            # The requests keep a failure, whose frames lead back to this one.
            del batch, rows

    def _finished(self, lane: _Lane, batch: Batch, seconds: float) -> None:
        with self._lock:
            if lane.batch is not batch:
                return  # given up as hung, and its requests failed
            lane.batch = None
            self._used_at = self._clock()
            self._observe("infer", seconds)
            if seconds > 0:
                rate = lane.tokens / seconds
                self._tokens_per_second += 0.2 * (rate - self._tokens_per_second)
            for request, _ in batch:
                request.unfinished -= 1
                if request.error is not None:
                    self._drop(request, request.error)
                elif request.unfinished == 0:
                    request.done.set()

    def _drop(self, request: Request, error: ProviderError) -> None:
        """Take a request out of the queue and end its waiter's wait; the lock is held."""
        self._queue.remove(request)
        request.fail(error)

    def _drop_late(self) -> None:
        now = self._clock()
        for request in self._queue.requests():
            if request.deadline <= now:
                self._drop(request, _late())


def _late() -> ProviderTimeout:
    return ProviderTimeout("The local engine did not answer before the deadline.")


def _fail(
    batch: Batch, error: ProviderError, cause: BaseException | None = None
) -> None:
    for request, _ in batch:
        request.fail(error, cause)
