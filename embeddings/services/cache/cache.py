"""The cache of this process: what was computed before is found, and each text is computed once at a time."""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from embeddings.conf import CacheConf, conf
from embeddings.services.cache.lru import MemoryRows, Row
from embeddings.services.cache.row_store import RowStore
from embeddings.services.cache.shared import SharedRows
from embeddings.services.cache.sqlite_store import SqliteStore
from providers.base import Vectors
from providers.exceptions import (
    Abandoned,
    ProviderMalformed,
    ProviderTimeout,
    ProviderUnavailable,
    bare_copy,
)
from providers.state.process import owned
from providers.waiting import aside

Compute = Callable[[list[int]], Vectors]

# Beyond these, 30 MB at 384 dimensions, a cache that processes share is in its store alone.
MAX_MEMORY_ROWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """`size` is the shared store's, if there is one; hits and misses are this process's."""

    size: int
    max_size: int
    ttl_seconds: int
    hits: int
    misses: int
    hit_rate: float


@dataclass(slots=True)
class _Plan:
    """How one request gets its rows: found now, led by this request, or awaited from another."""

    generation: int | None
    rows: dict[bytes, Row] = field(default_factory=dict)
    own: dict[bytes, int] = field(
        default_factory=dict
    )  # key -> where its text stands among the request's texts
    awaited: dict[bytes, "Future[Row]"] = field(default_factory=dict)


class EmbeddingCache:
    """Rows by key, exactly as the provider gave them: in memory, and behind that in a store that processes share.

    A generation is the time between two clears. What was computed in one that is over is not kept.
    """

    timer = staticmethod(time.monotonic)

    def __init__(
        self, *, max_size: int, ttl_seconds: int, store: RowStore | None = None
    ) -> None:
        self._max_size = max_size
        self._ttl_seconds = ttl_seconds
        self._memory = MemoryRows(
            max_size=min(max_size, MAX_MEMORY_ROWS) if store else max_size
        )
        self._shared = SharedRows(store, newly_used=self._newly_used)
        self._generation: int | None = None
        self._in_flight: dict[bytes, Future[Row]] = {}
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def get_or_compute(
        self, keys: Sequence[bytes], compute: Compute, *, timeout_seconds: float
    ) -> Vectors:
        """Return float32 (len(keys), d). `compute` gets the indices to compute and is called once, or more often
        where others' clients leave before the rows are there.

        Own misses are computed before others' are awaited, so that two requests never wait for each other. A failure
        reaches everyone who waits for the rows it would have given, and nothing is stored.
        Raises ProviderTimeout if the rows of others do not come within `timeout_seconds`.
        """
        self._look_for_clear()
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
        """Forget everything, for all processes, and return how many rows that were."""
        with self._lock:
            mine = len(self._memory)
        cleared = self._shared.clear()
        self._begin(cleared.generation if cleared else secrets.randbits(62))
        return max(mine, cleared.rows) if cleared else mine

    def stats(self) -> CacheStats:
        self._look_for_clear()
        shared = self._shared.size(generation=self._generation)
        with self._lock:
            asked = self._hits + self._misses
            return CacheStats(
                size=len(self._memory) if shared is None else shared,
                max_size=self._max_size,
                ttl_seconds=self._ttl_seconds,
                hits=self._hits,
                misses=self._misses,
                hit_rate=round(self._hits / asked, 4) if asked else 0.0,
            )

    def flush(self) -> None:
        """Write to the store what is on its way there."""
        self._shared.flush()

    def close(self) -> None:
        """Write what is on its way, and let go of the store."""
        self._shared.close()

    def _gather(
        self, keys: Sequence[bytes], compute: Compute, *, deadline: float
    ) -> list[Row]:
        rows: dict[bytes, Row] = {}
        while not rows.keys() >= set(keys):
            self._look_for_clear()
            plan = self._plan(keys, rows)
            if plan.own:
                rows |= self._lead(plan, compute)
            try:
                rows |= self._await(plan.awaited, deadline)
            except Abandoned:
                # The client that had them computed is gone. This request does it now.
                continue
        return [rows[key] for key in keys]

    def _plan(self, keys: Sequence[bytes], rows: dict[bytes, Row]) -> _Plan:
        """Tell how to get what `rows` lack; what is in memory is put there."""
        now = self.timer()
        with self._lock:
            plan = _Plan(generation=self._generation, rows=rows)
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
                    plan.own[key] = index
                    self._in_flight[key] = Future()
        return plan

    def _lead(self, plan: _Plan, compute: Compute) -> dict[bytes, Row]:
        """Find rows in the store or compute them, and hand them, or the failure, to everyone who waits for them."""
        left = dict(plan.own)
        try:
            found = self._found_in_store(plan)
            self._settle(found, lambda key, future: future.set_result(found[key]))
            left = {key: index for key, index in left.items() if key not in found}
            if not left:
                return found
            vectors = np.asarray(compute(list(left.values())), dtype=np.float32)
            rows = {
                key: vector.tobytes() for key, vector in zip(left, vectors, strict=True)
            }
        except BaseException as error:
            # An interrupt concerns this thread alone; those who wait get an error they can answer with.
            failure = (
                bare_copy(error)
                if isinstance(error, Exception)
                else ProviderUnavailable("The computation was interrupted.")
            )
            self._settle(left, lambda key, future: future.set_exception(failure))
            raise
        self._keep(rows, plan.generation)
        self._settle(rows, lambda key, future: future.set_result(rows[key]))
        return found | rows

    def _found_in_store(self, plan: _Plan) -> dict[bytes, Row]:
        found = self._shared.read(list(plan.own), generation=plan.generation)
        now = self.timer()
        with self._lock:
            self._hits += len(found)
            self._misses += len(plan.own) - len(found)
            if plan.generation == self._generation:
                for key, (age_seconds, row) in found.items():
                    left = self._ttl_seconds - age_seconds
                    self._memory.put(key, row, until=now + left)
        return {key: row for key, (_, row) in found.items()}

    def _await(
        self, awaited: dict[bytes, "Future[Row]"], deadline: float
    ) -> dict[bytes, Row]:
        left = max(0.0, deadline - self.timer())
        if not awaited:
            return {}
        with aside.get()():
            done, late = futures.wait(
                awaited.values(), timeout=left, return_when=futures.FIRST_EXCEPTION
            )
        for future in done:
            if failure := future.exception():
                raise bare_copy(failure)
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

    def _keep(self, rows: dict[bytes, Row], generation: int | None) -> None:
        until = self.timer() + self._ttl_seconds
        with self._lock:
            if generation != self._generation:
                return  # cleared meanwhile
            for key, row in rows.items():
                self._memory.put(key, row, until=until)
        self._shared.write(rows, generation=generation)

    def _forget(self, keys: Sequence[bytes]) -> None:
        with self._lock:
            self._memory.forget(keys)
            generation = self._generation
        self._shared.forget(keys, generation=generation)

    def _look_for_clear(self) -> None:
        """See once in a while whether another process has cleared the cache; a store answers nothing of before."""
        generation = self._shared.looked_up_generation()
        if generation is not None:
            self._begin(generation)

    def _begin(self, generation: int) -> None:
        """Forget what this process holds of another generation."""
        with self._lock:
            if generation != self._generation:
                self._memory.clear()
                self._generation = generation

    def _newly_used(self) -> list[bytes]:
        with self._lock:
            return self._memory.newly_used()


@owned
def embedding_cache() -> EmbeddingCache:
    """Return the process-wide cache."""
    return EmbeddingCache(
        max_size=conf().cache.max_size,
        ttl_seconds=conf().cache.ttl_seconds,
        store=_store(conf().cache),
    )


def _store(cache: CacheConf) -> RowStore | None:
    if not cache.max_size:
        return None
    if cache.redis_url:
        from embeddings.services.cache.redis_store import RedisStore  # an extra

        return RedisStore(
            cache.redis_url, max_size=cache.max_size, ttl_seconds=cache.ttl_seconds
        )
    if cache.path:
        return SqliteStore(
            cache.path, max_size=cache.max_size, ttl_seconds=cache.ttl_seconds
        )
    return None
