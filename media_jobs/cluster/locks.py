"""File locks that tell whether processes live: the kernel lets go of one when its last holder is gone."""

import fcntl
import os
from pathlib import Path
from typing import Self


class LivenessLock:
    """An exclusive lock, shared with all children that are forked while it is held. Its file holds one number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def take(self) -> bool:
        """Take the lock if nobody has it; return whether that worked."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def write(self, number: int) -> None:
        """Leave a number for whoever finds the lock taken."""
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, str(number).encode(), 0)

    def read(self) -> int | None:
        """Return the number that the holder left, or None."""
        try:
            return int(self._path.read_text())
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """Let go in this process. Children that hold the lock keep it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
