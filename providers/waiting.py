"""What a thread that serves a client says of its waits, and asks of its client. Standard library only."""

import contextlib
from collections.abc import Callable
from contextvars import ContextVar

# Set by whoever serves a client, for the thread that does; asked while the local engine works for it.
caller_left: ContextVar[Callable[[], bool]] = ContextVar(
    "caller_left", default=lambda: False
)
# Set by whoever shares out the interpreter to threads: `with aside.get()():` is around a wait for another process.
aside: ContextVar[Callable[[], contextlib.AbstractContextManager[None]]] = ContextVar(
    "aside", default=contextlib.nullcontext
)
