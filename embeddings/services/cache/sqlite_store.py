"""Rows in an SQLite file of their own: shared by the processes of one machine, and found again after a restart."""

import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from embeddings.services.cache.row_store import (
    CLOCK_SKEW_SECONDS,
    MAX_DROPPED,
    Cleared,
    Clock,
    Entry,
    evicted,
)
from providers.state.sqlite_file import SqliteFile

# A request waits no longer for the file than it would take to compute a text or two; reads never wait for writes.
READ_BUSY_SECONDS = 0.25
WRITE_BUSY_SECONDS = 5.0
KEYS_A_STATEMENT = 500

# `size` counts all rows, so that it is known without counting.
SCHEMA = """
CREATE TABLE state (generation INTEGER NOT NULL, size INTEGER NOT NULL);
INSERT INTO state VALUES (abs(random() / 2), 0);
CREATE TABLE entry (
  key BLOB NOT NULL UNIQUE, stored_at REAL NOT NULL, used_at REAL NOT NULL, vector BLOB NOT NULL
);
CREATE INDEX entry_stored_at ON entry (stored_at);
CREATE INDEX entry_used_at ON entry (used_at);
"""
GENERATION = "SELECT generation FROM state"
# The plus keeps SQLite from looking rows up by their time.
READ = """
SELECT key, stored_at, vector FROM entry
WHERE key IN (%s) AND +stored_at BETWEEN ? AND ? AND (SELECT generation FROM state) = ?
"""
USE = "UPDATE entry SET used_at = ? WHERE key = ?"
INSERT = "INSERT OR IGNORE INTO entry (key, stored_at, used_at, vector) VALUES (?1, ?2, ?3, ?4)"
RENEW = "UPDATE entry SET stored_at = ?2, used_at = ?3, vector = ?4 WHERE key = ?1"
DROP_EXPIRED = """
DELETE FROM entry WHERE rowid IN (SELECT rowid FROM entry WHERE stored_at < ? OR stored_at > ? LIMIT ?)
"""
DROP_UNUSED = "DELETE FROM entry WHERE rowid IN (SELECT rowid FROM entry ORDER BY used_at LIMIT ?)"
SIZE = "SELECT size - (SELECT count(*) FROM entry WHERE stored_at < ?) FROM state WHERE generation = ?"
RESIZE = "UPDATE state SET size = size + ? RETURNING size"


class SqliteStore:
    """One connection for reads and one for writes, so that no request waits while rows are written."""

    name: ClassVar[str] = "sqlite"

    def __init__(
        self,
        path: Path,
        *,
        max_size: int,
        ttl_seconds: float,
        clock: Clock = time.time,
        read_busy_seconds: float = READ_BUSY_SECONDS,
        write_busy_seconds: float = WRITE_BUSY_SECONDS,
    ) -> None:
        self._max_size = max_size
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._for_reads = SqliteFile(
            path, schema=SCHEMA, busy_seconds=read_busy_seconds
        )
        self._for_writes = SqliteFile(
            path, schema=SCHEMA, busy_seconds=write_busy_seconds
        )

    def generation(self) -> int:
        with self._for_reads.reading() as connection:
            return _number(connection.execute(GENERATION))

    def read(self, keys: Sequence[bytes], *, generation: int) -> dict[bytes, Entry]:
        oldest, newest = self._lifetime()
        found = {}
        with self._for_reads.reading() as connection:
            for start in range(0, len(keys), KEYS_A_STATEMENT):
                part = keys[start : start + KEYS_A_STATEMENT]
                rows = connection.execute(
                    READ % ",".join("?" * len(part)),
                    (*part, oldest, newest, generation),
                )
                for key, stored_at, vector in rows:
                    found[key] = Entry(stored_at, vector)
        return found

    def write(
        self,
        entries: Mapping[bytes, Entry],
        *,
        used: Sequence[bytes] = (),
        generation: int,
    ) -> None:
        oldest, newest = self._lifetime()
        now = self._clock()
        rows = [
            (key, entry.stored_at, now, entry.row) for key, entry in entries.items()
        ]
        with self._for_writes.writing() as connection:
            if _number(connection.execute(GENERATION)) != generation:
                return
            expired = connection.execute(DROP_EXPIRED, (oldest, newest, MAX_DROPPED))
            connection.executemany(USE, [(now, key) for key in used])
            added = connection.executemany(INSERT, rows).rowcount if rows else 0
            if added < len(rows):
                connection.executemany(RENEW, rows)
            size = _resized(connection, added - expired.rowcount)
            if too_many := evicted(size, self._max_size):
                _resized(
                    connection,
                    -connection.execute(DROP_UNUSED, (too_many,)).rowcount,
                )

    def forget(self, keys: Sequence[bytes], *, generation: int) -> None:
        with self._for_writes.writing() as connection:
            dropped = connection.executemany(
                "DELETE FROM entry WHERE key = ?", [(key,) for key in keys]
            )
            _resized(connection, -dropped.rowcount)

    def size(self, *, generation: int) -> int:
        oldest, _ = self._lifetime()
        with self._for_reads.reading() as connection:
            return _number(connection.execute(SIZE, (oldest, generation)))

    def clear(self) -> Cleared:
        oldest, _ = self._lifetime()
        generation = secrets.randbits(62)
        with self._for_writes.writing() as connection:
            over = _number(connection.execute(GENERATION))
            size = _number(connection.execute(SIZE, (oldest, over)))
            connection.execute("DELETE FROM entry")
            connection.execute(
                "UPDATE state SET size = 0, generation = ?", (generation,)
            )
        return Cleared(size, generation)

    def close(self) -> None:
        self._for_reads.close()
        self._for_writes.close()

    def _lifetime(self) -> tuple[float, float]:
        """Return between which moments a row must have been stored to count."""
        now = self._clock()
        return now - self._ttl_seconds, now + CLOCK_SKEW_SECONDS


def _resized(connection: sqlite3.Connection, change: int) -> int:
    return _number(connection.execute(RESIZE, (change,)))


def _number(cursor: sqlite3.Cursor) -> int:
    row = cursor.fetchall()
    return int(row[0][0]) if row else 0
