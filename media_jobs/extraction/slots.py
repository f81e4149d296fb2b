"""How many files are read at once on this machine, whichever of the server's processes they came to."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embeddings.services.errors import Busy
from providers.exceptions import Abandoned
from providers.state.process import owned
from providers.waiting import caller_left

POLL_SECONDS = 0.05
RETRY_AFTER_SECONDS = 5
# A file that waits holds one of its web process's threads, of which other requests need most.
MAX_WAITING = 8


@owned
def _waiting() -> threading.BoundedSemaphore:
    """Who of this process may wait."""
    return threading.BoundedSemaphore(MAX_WAITING)


@contextmanager
def slot(folder: Path, count: int, *, patience: float) -> Iterator[int]:
    """Hold one of `count` slots; yield its descriptor: it stays taken while any process has that open.

    Waits up to `patience` seconds. Raises Busy, at once where too many wait already; Abandoned when the client left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = _free(folder, count)
    if handle is None:
        handle = _awaited(folder, count, patience)
    try:
        yield handle
    finally:
        os.close(handle)


def _awaited(folder: Path, count: int, patience: float) -> int:
    waiting = _waiting()
    if not waiting.acquire(blocking=False):
        raise _busy()
    try:
        until = time.monotonic() + patience
        while time.monotonic() < until:
            time.sleep(POLL_SECONDS)
            if caller_left.get()():
                raise Abandoned("The client closed the connection.")
            handle = _free(folder, count)
            if handle is not None:
                return handle
    finally:
        waiting.release()
    raise _busy()


def _free(folder: Path, count: int) -> int | None:
    """Take a slot if one is free. The kernel frees it when its last holder is gone."""
    for number in range(count):
        path = folder / f"extraction-{number}.lock"
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
        else:
            return handle
    return None


def _busy() -> Busy:
    return Busy(
        "The server is reading as many files as it may; try again in a moment.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
