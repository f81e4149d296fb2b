"""Signs that a run lives: a thread that beats beside it, and a watch that sees the beats stop.

What each kind of hang looks like from outside:

- The process stands still (SIGSTOP, a native call that keeps Python's lock): its thread stands still, too, and the
  beats stop at once.
- One step never ends while the interpreter runs on (a lock that nobody lets go, a native call without Python's lock):
  the thread alone would beat for ever. It beats only while the step under way is younger than `step_seconds`, which is
  more than all deadlines that a step has. So a slow batch and a long remote call beat to their end, and no longer.
- The machine is gone, or its way to the database: no beat arrives.

A beat is a value that changes. Whoever watches measures with its own monotonic clock for how long it has not, so that
no clock of any machine has to be right, or to go on steadily.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Self

import structlog
from django.db import DatabaseError, InterfaceError, connections

BEAT_SECONDS = 5.0
# What one look can add to a silence: a watch that was itself held up must not take everybody for dead.
MAX_GAP_SECONDS = 25.0

log = structlog.get_logger(__name__)


class Heartbeat:
    """Call `beat` every few seconds until it returns False, or the block ends."""

    clock = staticmethod(time.monotonic)

    def __init__(self, beat: Callable[[], bool], *, step_seconds: float) -> None:
        self._beat = beat
        self._step_seconds = step_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=contextvars.copy_context().run,  # its log lines name the job
            args=[self._run],
            name="heartbeat",
            daemon=True,
        )
        self.step()

    def step(self) -> None:
        """Note that the run goes on: another step begins."""
        self._step_at = self.clock()

    def is_moving(self) -> bool:
        """Whether the step under way may still be at work."""
        return self.clock() - self._step_at <= self._step_seconds

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # A beat that waits for a lock in the database ends by itself, and changes nothing that is not the run's.
        self._thread.join(BEAT_SECONDS)

    def _run(self) -> None:
        try:
            while not self._ended.wait(BEAT_SECONDS):
                if self.is_moving() and not self._beats():
                    return
        finally:
            connections.close_all()  # this thread's

    def _beats(self) -> bool:
        try:
            return self._beat()
        except (DatabaseError, InterfaceError) as error:
            log.warning("heartbeat_not_written", reason=type(error).__name__)
            connections.close_all()
            return True


class Watch:
    """For how long each heartbeat has stood still."""

    clock = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._seen: dict[str, tuple[datetime | None, float]] = {}
        self._looked_at: float | None = None

    def look(self, beats: Mapping[str, datetime | None]) -> dict[str, float]:
        """Take the heartbeat of every claim; return the seconds that each was seen to stand still."""
        now = self.clock()
        gap = now - self._looked_at if self._looked_at is not None else 0.0
        gap, self._looked_at = min(gap, MAX_GAP_SECONDS), now
        silence = {
            claim: self._seen[claim][1] + gap
            if claim in self._seen and self._seen[claim][0] == beat
            else 0.0
            for claim, beat in beats.items()
        }
        self._seen = {claim: (beat, silence[claim]) for claim, beat in beats.items()}
        return silence

    def forget(self) -> None:
        """Begin again: the beats could not be seen for a while."""
        self._seen, self._looked_at = {}, None
