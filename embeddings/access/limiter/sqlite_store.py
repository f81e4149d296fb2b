"""Buckets in an SQLite file of their own: shared by all processes of one machine, apart from the product's database.

Nothing is lost that matters if the file is: all buckets are full then. So it is never synced to disk.
"""

import fcntl
import os
import sqlite3
import threading
import time
from pathlib import Path

from embeddings.access.limiter.gcra import Clock, Moved, StoreUnavailable

Values = dict[str, str | int]

BUSY_SECONDS = (
    1.0  # a move takes microseconds; who waits this long stands before a stuck file
)

CREATE = "CREATE TABLE IF NOT EXISTS bucket (key TEXT PRIMARY KEY, full_at INTEGER NOT NULL) WITHOUT ROWID"
MOVE = """
INSERT INTO bucket (key, full_at) SELECT :key, :now + :cost WHERE :cost <= :limit
ON CONFLICT (key) DO UPDATE SET full_at = min(max(full_at, :now), :now + :ceiling) + :cost
WHERE min(max(full_at, :now), :now + :ceiling) + :cost <= :now + :limit
RETURNING full_at
"""
# After a refusal: what lies beyond the ceiling is brought down to it, so that the wait that is said is the true one.
# By the clock once the file is ours: one read before a wait for it is behind, and would give back what others took.
HEAL = "UPDATE bucket SET full_at = clock() + :ceiling WHERE key = :key AND full_at > clock() + :ceiling"
LOOK = "SELECT max(full_at, :now) FROM bucket WHERE key = :key"
FORGET = "DELETE FROM bucket WHERE full_at <= :now"


def wall_clock() -> int:
    """Return microseconds since the epoch."""
    return time.time_ns() // 1000


class SqliteStore:
    """One connection a process, one statement at a time: threads queue here rather than in SQLite's busy loop."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock = wall_clock,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inherited: sqlite3.Connection | None = None
        self._pid = 0

    def move(self, key: str, *, cost: int, limit: int, ceiling: int) -> Moved:
        values: Values = {"key": key, "cost": cost, "limit": limit, "ceiling": ceiling}
        with self._lock:
            try:
                return self._move(values)
            except (sqlite3.Error, OSError) as error:
                self._close()
                raise StoreUnavailable(str(error)) from error

    def forget_full(self) -> None:
        with self._lock:
            try:
                self._opened().execute(FORGET, {"now": self._clock()})
            except (sqlite3.Error, OSError) as error:
                self._close()
                raise StoreUnavailable(str(error)) from error

    def close(self) -> None:
        """Close the file; the next move opens it again."""
        with self._lock:
            self._close()

    def _move(self, values: Values) -> Moved:
        connection = self._opened()
        now = self._clock()
        values = {**values, "now": now}
        if rows := connection.execute(MOVE, values).fetchall():
            return Moved(allowed=True, lag=rows[0][0] - now)
        row = connection.execute(LOOK, values).fetchone()
        lag: int = row[0] - now if row else 0
        ceiling = int(values["ceiling"])
        if lag > ceiling:
            connection.execute(HEAL, values)
        return Moved(allowed=False, lag=min(lag, ceiling))

    def _opened(self) -> sqlite3.Connection:
        """Return this process's connection: SQLite's do not survive a fork."""
        if self._connection is None or self._pid != os.getpid():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # One process at a time: SQLite does not wait its busy time for the change of a new file to WAL.
            with self._path.with_suffix(".lock").open("wb") as turn:
                fcntl.flock(turn, fcntl.LOCK_EX)
                connection = self._open()
            # One that was opened before a fork is kept, unused: SQLite forbids even closing it here.
            self._inherited = self._connection
            self._connection, self._pid = connection, os.getpid()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.create_function("clock", 0, self._clock)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(CREATE)
        return connection

    def _close(self) -> None:
        if self._connection is not None and self._pid == os.getpid():
            self._connection.close()
            self._connection = None
