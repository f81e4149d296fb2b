"""File locks that show whether processes live: the kernel lets go of one when its last holder is gone."""

import fcntl
import os
from pathlib import Path
from typing import Self


class LivenessLock:
    """An exclusive lock, shared with all children that are forked while it is held. Its file holds one line."""

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

    def write(self, line: str) -> None:
        """Leave a line for whoever finds the lock taken, or takes it next."""
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, line.encode(), 0)

    def read(self) -> str:
        """Return the line that the last holder left; empty where there is none."""
        try:
            return self._path.read_text()
        except (OSError, ValueError):
            return ""

    def place(self) -> str:
        """Name the file itself: a copy, on this disk or another, is another one."""
        status = self._path.stat()
        return f"{status.st_dev}:{status.st_ino}"

    def close(self) -> None:
        """Let go in this process. Children that hold the lock keep it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
