"""How far a long action is, and whether somebody wants it to stop. Whoever works says it, whoever watches reads it."""

import threading
from collections.abc import Callable
from contextvars import ContextVar

from providers.exceptions import ActionCancelled


class Progress:
    """One action's stage and bytes. `total_bytes`: None while it is not known. May be read and cancelled by any thread.

    `watch` is called after each change, by the thread that works. `look`, before each stage: it may cancel.
    """

    look: Callable[[], None] | None = None

    def __init__(self, watch: Callable[["Progress"], None] | None = None) -> None:
        self.stage = ""
        self.done_bytes = 0
        self.total_bytes: int | None = None
        self._watch = watch
        self._cancelled = threading.Event()

    def begin(self, stage: str, *, total_bytes: int | None = None) -> None:
        """Begin the next stage, without bytes done. Raises ActionCancelled."""
        if self.look:
            self.look()
        self.check()
        self.stage, self.done_bytes, self.total_bytes = stage, 0, total_bytes
        self._changed()

    def expect(self, more_bytes: int) -> None:
        """Add to the total of this stage."""
        self.total_bytes = (self.total_bytes or 0) + more_bytes
        self._changed()

    def advance(self, more_bytes: int) -> None:
        """Note bytes done; a negative number takes some back. Raises ActionCancelled."""
        self.reach(self.done_bytes + more_bytes)

    def reach(self, done_bytes: int) -> None:
        """Note how many bytes are done. Raises ActionCancelled."""
        self.done_bytes = max(0, done_bytes)
        self._changed()
        self.check()

    def cancel(self) -> None:
        """Have the action stop at the next thing that it says."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants the action to stop."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raises ActionCancelled where somebody wants the action to stop."""
        if self._cancelled.is_set():
            raise ActionCancelled("It was cancelled.")

    def _changed(self) -> None:
        if self._watch:
            self._watch(self)


# Of the action that this thread does; one that nobody watches where it does none.
progress_of: ContextVar[Progress | None] = ContextVar("progress", default=None)


def progress() -> Progress:
    """Return the progress of what this thread does."""
    return progress_of.get() or Progress()
