"""Remembering for a moment, and leaving alone after a failure."""

import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")
Timer = Callable[[], float]
NEVER = -math.inf
# For how long a value that is far too old is waited for.
READING_SECONDS = 1.0


class Fresh(Generic[Value]):
    """A value that is read again once it is older than `seconds`.

    One thread at a time reads; the others go on with the last value, and wait only for the first one. A process that
    was idle has one from long ago: of twice that age they wait for the reader, too, a second at most. Where `read`
    fails the next caller reads.
    """

    def __init__(
        self,
        read: Callable[[], Value],
        *,
        seconds: float,
        timer: Timer = time.monotonic,
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._timer = timer
        self._lock = threading.Lock()
        self._value: Value | None = None
        self._read_at = NEVER

    def get(self) -> Value:
        age = self._timer() - self._read_at
        if age >= self._seconds:
            self._read_again(
                patience=READING_SECONDS if age >= 2 * self._seconds else 0
            )
        return self._value  # type: ignore[return-value]  # read by now

    def _read_again(self, *, patience: float) -> None:
        if self._lock.acquire(timeout=-1 if self._read_at == NEVER else patience):
            try:
                if self._timer() - self._read_at >= self._seconds:
                    self._value = self._read()
                    self._read_at = self._timer()
            finally:
                self._lock.release()


class Rest:
    """Leave something alone after it failed: one caller in `seconds` asks, until it works again."""

    def __init__(self, seconds: float, *, timer: Timer = time.monotonic) -> None:
        self._seconds = seconds
        self._timer = timer
        self._lock = threading.Lock()
        self._until = 0.0
        self.failing = False

    def may_ask(self) -> bool:
        """Whether to ask now; who is let through while it fails asks for all."""
        if not self.failing:
            return True
        with self._lock:
            now = self._timer()
            if now < self._until:
                return False
            self._until = now + self._seconds
            return True

    def failed(self) -> None:
        with self._lock:
            self.failing, self._until = True, self._timer() + self._seconds

    def worked(self) -> None:
        if self.failing:
            self.failing = False
