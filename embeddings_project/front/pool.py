"""Threads that call the application, few of them at work at a time.

Threads that want Python's interpreter at once make each other slower: with 64 at work a process answered two thirds of
the requests that it did with three. So a job is started when a thread is done, or waits for the engine or an upstream
(`aside`), or for whatever takes longer than PATIENCE_SECONDS.
"""

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from providers.waiting import aside

AT_WORK = 3
PATIENCE_SECONDS = 0.02

Job = TypeVar("Job")


class _Turn:
    """One thread's work at a job. `counts`: it is one of those at work."""

    __slots__ = ("began_at", "counts", "thread")

    def __init__(self) -> None:
        self.thread = 0
        self.began_at = 0.0
        self.counts = False


class Pool(Generic[Job]):
    """Does `work` for each job, in order, in up to `size` threads. `work` must not raise."""

    def __init__(
        self,
        work: Callable[[Job], None],
        *,
        size: int,
        name: str,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work, self._size, self._name = work, size, name
        self._timer = timer
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._started: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._turns: list[_Turn] = []  # of all threads
        self._idle = 0
        self._at_work = 0

    def put(self, job: Job) -> None:
        """Have the job done as soon as it may be."""
        with self._lock:
            self._waiting.append(job)
            self._start()

    def look(self) -> bool:
        """Count no longer who has been at work for long; return whether jobs wait. To be called now and then."""
        if not self._waiting:
            return False
        with self._lock:
            long_ago = self._timer() - PATIENCE_SECONDS
            for turn in self._turns:
                if turn.counts and turn.began_at < long_ago:
                    self._leave(turn)
            self._start()
            return bool(self._waiting)

    def _start(self) -> None:
        """Start jobs while few are at work; the lock is held."""
        while self._waiting and self._at_work < AT_WORK:
            if not self._idle and len(self._turns) >= self._size:
                return
            self._at_work += 1
            if self._idle:
                self._idle -= 1
                self._started.put(self._waiting.popleft())
                continue
            turn = _Turn()
            self._turns.append(turn)
            threading.Thread(
                target=self._run,
                args=[turn, self._waiting.popleft()],
                name=f"{self._name}-{len(self._turns)}",
                daemon=True,
            ).start()

    def _run(self, turn: _Turn, job: Job) -> None:
        turn.thread = threading.get_ident()
        aside.set(lambda: self._aside(turn))
        while True:
            turn.began_at, turn.counts = self._timer(), True
            self._work(job)
            with self._lock:
                if turn.counts:
                    self._leave(turn)
                if self._waiting and self._at_work < AT_WORK:
                    self._at_work += 1
                    job = self._waiting.popleft()
                    continue
                self._idle += 1
            job = self._started.get()

    @contextlib.contextmanager
    def _aside(self, turn: _Turn) -> Iterator[None]:
        """Let others be at work inside of the `with`; threads that the job has started are none of the pool's."""
        if threading.get_ident() != turn.thread:
            yield
            return
        with self._lock:
            if turn.counts:
                self._leave(turn)
                self._start()
        try:
            yield
        finally:
            with self._lock:
                turn.began_at, turn.counts = self._timer(), True
                self._at_work += 1

    def _leave(self, turn: _Turn) -> None:
        turn.counts = False
        self._at_work -= 1
