"""The cache of this process: what was computed before is found, and each text is computed once at a time."""

import functools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from embeddings.conf import conf
from embeddings.services.cache.memory import MemoryRows, Row
from providers.base import Vectors
from providers.exceptions import (
    ProviderMalformed,
    ProviderTimeout,
    ProviderUnavailable,
)

Compute = Callable[[list[int]], Vectors]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """Figures of one process."""

    size: int
    max_size: int
    ttl_seconds: int
    hits: int
    misses: int
    hit_rate: float


@dataclass(slots=True)
class _Plan:
    """How one request gets its rows: found now, computed by this request, or awaited from another."""

    rows: dict[bytes, Row] = field(default_factory=dict)
    own: dict[bytes, int] = field(
        default_factory=dict
    )  # key -> where its text stands among the request's texts
    awaited: dict[bytes, "Future[Row]"] = field(default_factory=dict)


class EmbeddingCache:
    """Rows by key, exactly as the provider gave them."""

    timer = staticmethod(time.monotonic)

    def __init__(self, *, max_size: int, ttl_seconds: int) -> None:
        self._max_size = max_size
        self._ttl_seconds = ttl_seconds
        self._memory = MemoryRows(max_size=max_size)
        self._in_flight: dict[bytes, Future[Row]] = {}
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def get_or_compute(
        self, keys: Sequence[bytes], compute: Compute, *, timeout_seconds: float
    ) -> Vectors:
        """Return float32 (len(keys), d). `compute` gets the indices to compute and is called at most once.

        Own misses are computed before others' are awaited, so that two requests never wait for each other. A failure
        reaches everyone who waits for the rows it would have given, and nothing is stored.
        Raises ProviderTimeout if the rows of others do not come within `timeout_seconds`.
        """
        now = self.timer()
        with self._lock:
            rows = self._memory.get_all(keys, now=now)
            if rows is not None:
                self._hits += len(keys)
        if rows is None:
            rows = self._gather(keys, compute, deadline=now + timeout_seconds)
        if len(set(map(len, rows))) > 1:
            self._forget(keys)
            raise ProviderMalformed(
                "The model's vectors changed their size; ask again."
            )
        # A bytearray, since what is made from bytes could not be written to.
        joined = np.frombuffer(bytearray().join(rows), dtype=np.float32)
        return joined.reshape(len(rows), -1)

    def clear(self) -> int:
        """Forget everything and return how many rows that were."""
        with self._lock:
            cleared = len(self._memory)
            self._memory.clear()
            return cleared

    def stats(self) -> CacheStats:
        with self._lock:
            asked = self._hits + self._misses
            return CacheStats(
                size=len(self._memory),
                max_size=self._max_size,
                ttl_seconds=self._ttl_seconds,
                hits=self._hits,
                misses=self._misses,
                hit_rate=round(self._hits / asked, 4) if asked else 0.0,
            )

    def _gather(
        self, keys: Sequence[bytes], compute: Compute, *, deadline: float
    ) -> list[Row]:
        plan = self._plan(keys)
        if plan.own:
            plan.rows |= self._lead(plan.own, compute)
        if plan.awaited:
            plan.rows |= self._await(plan.awaited, deadline)
        return [plan.rows[key] for key in keys]

    def _plan(self, keys: Sequence[bytes]) -> _Plan:
        plan = _Plan()
        now = self.timer()
        with self._lock:
            for index, key in enumerate(keys):
                if key in plan.rows or key in plan.own or key in plan.awaited:
                    self._hits += 1
                elif (row := self._memory.get(key, now=now)) is not None:
                    self._hits += 1
                    plan.rows[key] = row
                elif future := self._in_flight.get(key):
                    self._hits += 1
                    plan.awaited[key] = future
                else:
                    self._misses += 1
                    plan.own[key] = index
                    self._in_flight[key] = Future()
        return plan

    def _lead(self, own: dict[bytes, int], compute: Compute) -> dict[bytes, Row]:
        """Compute rows and hand them to everyone who waits for them, or the failure."""
        try:
            vectors = np.asarray(compute(list(own.values())), dtype=np.float32)
            rows = {
                key: vector.tobytes() for key, vector in zip(own, vectors, strict=True)
            }
        except BaseException as error:
            # An interrupt concerns this thread alone; those who wait get an error they can answer with.
            failure = (
                error
                if isinstance(error, Exception)
                else ProviderUnavailable("The computation was interrupted.")
            )
            self._settle(own, lambda key, future: future.set_exception(failure))
            raise
        self._store(rows)
        self._settle(own, lambda key, future: future.set_result(rows[key]))
        return rows

    def _await(
        self, awaited: dict[bytes, "Future[Row]"], deadline: float
    ) -> dict[bytes, Row]:
        left = max(0.0, deadline - self.timer())
        done, late = futures.wait(
            awaited.values(), timeout=left, return_when=futures.FIRST_EXCEPTION
        )
        for future in done:
            future.result()  # raises the failure of whoever computed it
        if late:
            raise ProviderTimeout(
                "Another request is still computing the same texts; ask again."
            )
        return {key: future.result() for key, future in awaited.items()}

    def _settle(
        self, keys: Iterable[bytes], settle: Callable[[bytes, "Future[Row]"], Any]
    ) -> None:
        with self._lock:
            settled = {key: self._in_flight.pop(key) for key in keys}
        for key, future in settled.items():
            settle(key, future)

    def _store(self, rows: dict[bytes, Row]) -> None:
        until = self.timer() + self._ttl_seconds
        with self._lock:
            for key, row in rows.items():
                self._memory.put(key, row, until=until)

    def _forget(self, keys: Sequence[bytes]) -> None:
        with self._lock:
            self._memory.forget(keys)


@functools.cache
def embedding_cache() -> EmbeddingCache:
    """Return the process-wide cache."""
    return EmbeddingCache(
        max_size=conf().cache_max_size, ttl_seconds=conf().cache_ttl_seconds
    )
