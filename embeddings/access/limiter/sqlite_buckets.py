"""Buckets in an SQLite file of their own: shared by all processes of one machine, apart from the product's database.

Nothing is lost that matters if the file is: all buckets are full then. So it is never synced to disk.
"""

import time
from pathlib import Path

from embeddings.access.limiter.gcra import Clock, Moved
from providers.state.sqlite_file import SqliteFile

Values = dict[str, str | int]

BUSY_SECONDS = (
    1.0  # a move takes microseconds; who waits this long stands before a stuck file
)

CREATE = "CREATE TABLE IF NOT EXISTS bucket (key TEXT PRIMARY KEY, full_at INTEGER NOT NULL) WITHOUT ROWID;"
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


class SqliteBuckets:
    """One connection a process, one statement at a time: threads queue here rather than in SQLite's busy loop."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock = wall_clock,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self._clock = clock
        self._file = SqliteFile(
            path,
            schema=CREATE,
            busy_seconds=busy_seconds,
            synced=False,
            functions={"clock": clock},
        )

    def move(self, key: str, *, cost: int, limit: int, ceiling: int) -> Moved:
        values: Values = {"key": key, "cost": cost, "limit": limit, "ceiling": ceiling}
        with self._file.reading() as connection:
            now = self._clock()
            values["now"] = now
            if rows := connection.execute(MOVE, values).fetchall():
                return Moved(allowed=True, lag=rows[0][0] - now)
            row = connection.execute(LOOK, values).fetchone()
            lag: int = row[0] - now if row else 0
            if lag > ceiling:
                connection.execute(HEAL, values)
            return Moved(allowed=False, lag=min(lag, ceiling))

    def forget_full(self) -> None:
        with self._file.reading() as connection:
            connection.execute(FORGET, {"now": self._clock()})

    def close(self) -> None:
        """Close the file; the next move opens it again."""
        self._file.close()
