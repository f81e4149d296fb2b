"""What this process owns: each part is made when it is first asked for, after the fork, and closed once.

A part is a function without arguments under `@owned`. A forked child begins with none. Its parent's are kept, unused:
their threads do not run here, and SQLite forbids even closing what another process opened.
"""

import os
import threading
from collections.abc import Callable
from multiprocessing.util import Finalize
from typing import Any, Generic, TypeVar

Part = TypeVar("Part")


class Process:
    """The parts made so far, in their order."""

    def __init__(self) -> None:
        self.parts: dict[Owned[Any], Any] = {}
        self._lock = threading.RLock()

    def make(self, owned: "Owned[Part]") -> Part:
        """Return the part, made once however many threads ask."""
        with self._lock:
            if owned not in self.parts:
                self.parts[owned] = owned.build()
            part: Part = self.parts[owned]
            return part

    def close(self) -> None:
        """Store what parts have not stored yet, and let go of files and connections; the latest part first."""
        for part in reversed([*self.parts.values()]):
            if callable(close := getattr(part, "close", None)):
                close()


class Owned(Generic[Part]):
    """The way to one part of this process."""

    def __init__(self, build: Callable[[], Part]) -> None:
        self.build = build
        self.__doc__ = build.__doc__

    def __call__(self) -> Part:
        try:
            part: Part = _process.parts[self]
        except KeyError:
            return _process.make(self)
        return part

    def cache_clear(self) -> None:
        """Have the part made again when it is next asked for."""
        _process.parts.pop(self, None)


owned = Owned

_process = Process()
_inherited: list[Process] = []


def close() -> None:
    """Close this process's parts."""
    _process.close()


def at_end(close: Callable[[], None]) -> Finalize:
    """Have `close` called at the end of this process, unless what is returned is called or cancelled before.

    Also in a process that `multiprocessing` made, such as one that runs jobs: those run nothing of `atexit`.
    """
    return Finalize(None, close, exitpriority=0)


def renew() -> None:
    """Begin with no parts, as a new process does."""
    global _process
    _process = Process()


def _be_a_child() -> None:
    _inherited.append(_process)
    renew()


os.register_at_fork(after_in_child=_be_a_child)
