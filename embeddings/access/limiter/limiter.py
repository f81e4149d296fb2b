"""The limiter of this process. Where its store cannot be asked callers are let in: a limiter must not be an outage."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import structlog
from django.conf import settings
from django.db import connection

from embeddings.access.limiter.gcra import (
    MAX_DEBT,
    UNBOUNDED,
    BucketStore,
    Moved,
    Rate,
    Standing,
    standing,
)
from embeddings.conf import conf
from providers.state import StoreUnavailable
from providers.state.process import owned
from providers.state.timed import Rest

REST_SECONDS = 1.0  # how long a store that failed is left alone
CLEANUP_SECONDS = 600.0

log = structlog.get_logger(__name__)


class Limiter:
    """Ask the buckets of a store."""

    timer = staticmethod(time.monotonic)

    def __init__(self, store: BucketStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._rest = Rest(REST_SECONDS, timer=lambda: self.timer())
        self._cleaned_at = self.timer()

    def take(self, key: str, rate: Rate) -> Standing:
        """Take one unit, or say when there will be one."""
        unit = rate.cost()
        moved = self._move(key, cost=unit, limit=rate.capacity, ceiling=rate.capacity)
        return standing(moved, rate, unit=unit)

    def look(self, key: str, rate: Rate) -> Standing:
        """Say whether one unit could be taken now, and take none."""
        unit = rate.cost()
        limit = rate.capacity - unit
        moved = self._move(key, cost=0, limit=limit, ceiling=rate.capacity)
        return standing(moved, rate, unit=unit)

    def any_left(self, key: str, rate: Rate) -> Standing:
        """Say whether anything at all is left in a bucket that is charged afterwards and may be in debt."""
        moved = self._move(key, cost=1, limit=rate.capacity, ceiling=MAX_DEBT)
        return standing(moved, rate, unit=1)

    def charge(self, key: str, rate: Rate, units: int) -> Standing:
        """Take `units` whether they are there or not; a debt makes the next request wait."""
        cost = min(rate.cost(units), MAX_DEBT)
        moved = self._move(key, cost=cost, limit=UNBOUNDED, ceiling=MAX_DEBT)
        return replace(standing(moved, rate, unit=1), allowed=True)

    def close(self) -> None:
        """Close the store, as the process does with what it owns."""
        self._store.close()

    def _move(self, key: str, *, cost: int, limit: int, ceiling: int) -> Moved:
        if not self._rest.may_ask():
            return Moved(allowed=True, lag=0)
        try:
            moved = self._store.move(key, cost=cost, limit=limit, ceiling=ceiling)
            self._clean_up(self.timer())
        except StoreUnavailable as error:
            self._rest.failed()
            log.warning("limiter_unavailable", reason=str(error))
            return Moved(allowed=True, lag=0)
        self._rest.worked()
        return moved

    def _clean_up(self, now: float) -> None:
        if now - self._cleaned_at < CLEANUP_SECONDS:
            return
        with self._lock:
            if now - self._cleaned_at < CLEANUP_SECONDS:
                return
            self._cleaned_at = now
        self._store.forget_full()


@owned
def limiter() -> Limiter:
    """Return the process-wide limiter: in Redis, else in the product's PostgreSQL, else in a file of its own."""
    return Limiter(_store(conf().limiter.redis_url))


def _store(redis_url: str | None) -> BucketStore:
    if redis_url:
        from embeddings.access.limiter.redis_buckets import RedisBuckets  # an extra

        return RedisBuckets(redis_url)
    if connection.vendor == "postgresql":
        from embeddings.access.limiter.postgres_buckets import PostgresBuckets

        return PostgresBuckets()
    from embeddings.access.limiter.sqlite_buckets import SqliteBuckets

    return SqliteBuckets(Path(settings.DATA_DIR) / "limiter.sqlite3")
