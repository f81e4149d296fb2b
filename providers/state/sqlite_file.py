"""An SQLite file that may be lost: opened when needed, by each process for itself, and replaced when it is broken."""

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from providers.state import StoreUnavailable
from providers.state.database import waits

BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# What the write-ahead log is cut back to once it was longer for a moment.
MAX_LOG_BYTES = 16 * 2**20

Identity = tuple[int, int]


class SqliteFile:
    """One connection of this process to the file, one user at a time.

    `schema`: what makes a new file. The file may vanish or be replaced under way: the next user opens the new one.
    `functions`: without arguments, for the statements. `synced` at checkpoints only: a loss of power costs the last
    rows, never the file's soundness; a file that is not synced at all may be broken by it.
    """

    def __init__(
        self,
        path: Path,
        *,
        schema: str,
        busy_seconds: float,
        synced: bool = True,
        functions: Mapping[str, Callable[[], Any]] | None = None,
    ) -> None:
        self._path = path
        self._schema = schema
        self._busy_seconds = busy_seconds
        self._synchronous = "NORMAL" if synced else "OFF"
        self._functions = functions or {}
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inherited: sqlite3.Connection | None = None
        self._identity: Identity | None = None
        self._pid = 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection. Raises StoreUnavailable instead of SQLite's errors."""
        with self._lock:
            try:
                yield self._opened()
            except BaseException as error:
                self._close()  # rolls back
                if not isinstance(error, sqlite3.Error | OSError):
                    raise
                if is_broken(error):
                    with self._turn():
                        self._remove_broken()
                raise StoreUnavailable(str(error)) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection for one transaction. Raises StoreUnavailable instead of SQLite's errors."""
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def close(self) -> None:
        with self._lock:
            self._close()

    def _opened(self) -> sqlite3.Connection:
        if (
            self._connection is None
            or self._pid != os.getpid()
            or self._identity != self._identity_now()
        ):
            self._close()
            # One that was opened before a fork is kept, unused: SQLite forbids even closing it here.
            self._inherited = self._connection
            if not waits.serving:  # then it is there, or was moved away
                self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._turn():
                self._connection = self._open_or_replace()
                self._identity, self._pid = self._identity_now(), os.getpid()
        return self._connection

    def _open_or_replace(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.DatabaseError as error:
            if not is_broken(error):
                raise
        self._remove()
        return self._open()

    def _open(self) -> sqlite3.Connection:
        # SQLite's own files beside it get the same mode: vectors tell about texts.
        self._path.touch(mode=0o600)
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            for name, function in self._functions.items():
                connection.create_function(name, 0, function)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.execute(f"PRAGMA journal_size_limit={MAX_LOG_BYTES}")
            if connection.execute("PRAGMA user_version").fetchone() == (0,):
                connection.executescript(
                    f"BEGIN IMMEDIATE; {self._schema} PRAGMA user_version=1; COMMIT;"
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _close(self) -> None:
        if self._connection is not None and self._pid == os.getpid():
            self._connection.close()
            self._connection = None

    def _remove_broken(self) -> None:
        """Remove the file that was open here, unless another process has replaced it by now."""
        if self._identity is not None and self._identity == self._identity_now():
            self._remove()

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _identity_now(self) -> Identity | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One process at a time: opening, since SQLite does not wait its busy time for a new file's log; removing."""
        with self._path.with_suffix(".lock").open("wb") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            yield


def is_broken(error: BaseException) -> bool:
    """Whether SQLite says that the file itself is no good."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in BROKEN
