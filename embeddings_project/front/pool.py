"""Threads that call the application. One starts when none is idle, up to the pool's size."""

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")


class Pool(Generic[Job]):
    """Does `work` for each job, in order. `put` is called by one thread alone; `work` must not raise."""

    def __init__(self, work: Callable[[Job], None], *, size: int, name: str) -> None:
        self._work, self._size, self._name = work, size, name
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._idle: deque[None] = deque()  # one entry for each thread that waits
        self._threads = 0

    def put(self, job: Job) -> None:
        self._jobs.put(job)
        try:
            self._idle.pop()
        except IndexError:
            if self._threads < self._size:
                self._threads += 1
                name = f"{self._name}-{self._threads}"
                threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                self._idle.append(None)
                job = self._jobs.get()
            self._work(job)
