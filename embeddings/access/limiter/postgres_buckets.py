"""Buckets in PostgreSQL, where the product's database is one: shared by all machines, by the database's own clock."""

from django.db import DatabaseError, InterfaceError, connections

from embeddings.access.limiter.gcra import Clock, Moved
from providers.state import StoreUnavailable

Values = dict[str, str | int]

TABLE = "embeddings_bucket"  # made by migration 0003

NOW = "COALESCE(%(now)s::bigint, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)"
# EXCLUDED.full_at is now + cost, so "now" is read once however often it is written.
MOVE = f"""
INSERT INTO {TABLE} AS bucket (key, full_at) SELECT %(key)s, {NOW} + %(cost)s WHERE %(cost)s <= %(limit)s
ON CONFLICT (key) DO UPDATE SET full_at =
  LEAST(GREATEST(bucket.full_at, EXCLUDED.full_at - %(cost)s), EXCLUDED.full_at - %(cost)s + %(ceiling)s) + %(cost)s
WHERE LEAST(GREATEST(bucket.full_at, EXCLUDED.full_at - %(cost)s), EXCLUDED.full_at - %(cost)s + %(ceiling)s)
  <= EXCLUDED.full_at - %(cost)s * 2 + %(limit)s
RETURNING full_at - {NOW}
"""
# After a refusal: what lies beyond the ceiling is brought down to it, so that the wait that is said is the true one.
HEAL = f"UPDATE {TABLE} SET full_at = {NOW} + %(ceiling)s WHERE key = %(key)s AND full_at > {NOW} + %(ceiling)s"  # noqa: S608
LOOK = f"SELECT full_at - {NOW} FROM {TABLE} WHERE key = %(key)s"  # noqa: S608
FORGET = f"DELETE FROM {TABLE} WHERE full_at <= {NOW}"  # noqa: S608


class PostgresBuckets:
    """Each thread uses its own connection of Django's; `clock` is for tests, None means the database's own."""

    def __init__(self, using: str = "default", *, clock: Clock | None = None) -> None:
        self._using = using
        self._clock = clock

    def move(self, key: str, *, cost: int, limit: int, ceiling: int) -> Moved:
        values: Values = {"key": key, "cost": cost, "limit": limit, "ceiling": ceiling}
        moved = self._run(MOVE, values)
        if moved is not None:
            return Moved(allowed=True, lag=max(0, moved))
        lag = self._run(LOOK, values) or 0
        if lag > ceiling:
            self._run(HEAL, values, returns=False)
        return Moved(allowed=False, lag=min(max(0, lag), ceiling))

    def forget_full(self) -> None:
        self._run(FORGET, {}, returns=False)

    def close(self) -> None:
        """Close this thread's connection."""
        connections[self._using].close()

    def _run(self, sql: str, values: Values, *, returns: bool = True) -> int | None:
        now = self._clock() if self._clock else None
        try:
            with connections[self._using].cursor() as cursor:
                cursor.execute(sql, {**values, "now": now})
                row = cursor.fetchone() if returns else None
        except (DatabaseError, InterfaceError) as error:
            raise StoreUnavailable(type(error).__name__) from error
        return None if row is None else int(row[0])
