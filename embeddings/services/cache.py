"""Vectors that were computed before: LRU with a time to live, and each text computed once however many ask for it."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.services.types import Target
from providers.base import InputType, Vectors
from providers.exceptions import ProviderMalformed, ProviderUnavailable

Row = NDArray[np.float32]


def cache_keys(
    target: Target,
    *,
    dimensions: int | None,
    input_type: InputType,
    texts: Sequence[str],
) -> list[bytes]:
    """Return one 32-byte key a text: provider, model, revision, native dimensions, input type and the text itself."""
    model = target.model
    scope = "\0".join(
        [target.provider, model.name, model.revision, str(dimensions), input_type]
    )
    start = hashlib.blake2b(scope.encode(), digest_size=32)
    keys = []
    for text in texts:
        digest = start.copy()
        digest.update(b"\0" + text.encode())
        keys.append(digest.digest())
    return keys


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
    """Rows by key, least recently used out first. Rows are read-only, exactly as the provider gave them."""

    timer = staticmethod(time.monotonic)

    def __init__(self, *, max_size: int, ttl_seconds: int) -> None:
        self._max_size = max_size
        self._ttl_seconds = ttl_seconds
        self._rows: OrderedDict[bytes, tuple[float, Row]] = OrderedDict()
        self._in_flight: dict[bytes, Future[Row]] = {}
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def get_or_compute(
        self, keys: Sequence[bytes], compute: Callable[[list[int]], Vectors]
    ) -> Vectors:
        """Return float32 (len(keys), d). `compute` gets the indices to compute and is called at most once.

        Own misses are computed before others' are awaited, so that two requests never wait for each other. A failure
        reaches everyone who waits for the rows it would have given, and nothing is stored.
        """
        plan = self._plan(keys)
        if plan.own:
            plan.rows |= self._compute(plan.own, compute)
        for key, future in plan.awaited.items():
            plan.rows[key] = future.result()
        if len({row.size for row in plan.rows.values()}) > 1:
            self._forget(keys)
            raise ProviderMalformed(
                "The model's vectors changed their size; ask again."
            )
        return np.stack([plan.rows[key] for key in keys])

    def clear(self) -> int:
        """Forget everything and return how many rows that were."""
        with self._lock:
            cleared = len(self._rows)
            self._rows.clear()
            return cleared

    def stats(self) -> CacheStats:
        with self._lock:
            asked = self._hits + self._misses
            return CacheStats(
                size=len(self._rows),
                max_size=self._max_size,
                ttl_seconds=self._ttl_seconds,
                hits=self._hits,
                misses=self._misses,
                hit_rate=round(self._hits / asked, 4) if asked else 0.0,
            )

    def _plan(self, keys: Sequence[bytes]) -> _Plan:
        plan = _Plan()
        now = self.timer()
        with self._lock:
            for index, key in enumerate(keys):
                if key in plan.rows or key in plan.own or key in plan.awaited:
                    self._hits += 1
                elif (row := self._fresh(key, now)) is not None:
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

    def _fresh(self, key: bytes, now: float) -> Row | None:
        entry = self._rows.get(key)
        if entry is None:
            return None
        stored_at, row = entry
        if now - stored_at > self._ttl_seconds:
            del self._rows[key]
            return None
        self._rows.move_to_end(key)
        return row

    def _compute(
        self, own: dict[bytes, int], compute: Callable[[list[int]], Vectors]
    ) -> dict[bytes, Row]:
        try:
            vectors = compute(list(own.values()))
            rows = {
                key: _frozen(vector) for key, vector in zip(own, vectors, strict=True)
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

    def _settle(
        self, own: dict[bytes, int], settle: Callable[[bytes, "Future[Row]"], Any]
    ) -> None:
        with self._lock:
            futures = {key: self._in_flight.pop(key) for key in own}
        for key, future in futures.items():
            settle(key, future)

    def _forget(self, keys: Sequence[bytes]) -> None:
        with self._lock:
            for key in keys:
                self._rows.pop(key, None)

    def _store(self, rows: dict[bytes, Row]) -> None:
        now = self.timer()
        with self._lock:
            for key, row in rows.items():
                self._rows[key] = (now, row)
                self._rows.move_to_end(key)
            while len(self._rows) > self._max_size:
                self._rows.popitem(last=False)


def _frozen(vector: Row) -> Row:
    """Return a read-only copy, so that a row never keeps a whole batch's array alive."""
    row = np.array(vector, dtype=np.float32)
    row.flags.writeable = False
    return row
