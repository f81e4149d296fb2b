"""Time: the deadline of one request, and the clocks that tests replace. Imports the
standard library only.
"""

import random
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Time and chance as a remote provider sees them: clocks and sleep in seconds,
    random in [0, 1).
    """

    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random


class Deadline:
    """The moment on the monotonic clock after which nobody waits for the answer any
    more.
    """

    __slots__ = ("_clock", "_ends_at")

    def __init__(self, ends_at: float, clock: Callable[[], float]) -> None:
        self._ends_at = ends_at
        self._clock = clock

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float]) -> Self:
        """Return the deadline that lies `seconds` from now."""
        return cls(clock() + seconds, clock)

    def remaining_seconds(self) -> float:
        """Return the time left, 0 if there is none."""
        return max(0.0, self._ends_at - self._clock())

    def cancel(self) -> None:
        """End it now: a sibling request failed, so nobody needs this one's answer."""
        self._ends_at = float("-inf")


# The transport reads it, since httpcore passes a stream nothing but a fixed timeout per
# read.
current_deadline: ContextVar[Deadline | None] = ContextVar(
    "current_deadline", default=None
)
