"""Whether the one who waits for an answer is still there. Standard library only."""

from collections.abc import Callable
from contextvars import ContextVar

# Set by whoever serves a client, for the thread that does; asked while the local engine works for it.
caller_left: ContextVar[Callable[[], bool]] = ContextVar(
    "caller_left", default=lambda: False
)
