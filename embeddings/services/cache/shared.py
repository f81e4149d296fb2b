"""The rows that processes share, as one process sees them: their store's faults nobody notices but the operator."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Concatenate, ParamSpec, TypeVar

import structlog

from embeddings.services import request_metrics
from embeddings.services.cache.lru import Row
from embeddings.services.cache.row_store import Cleared, Entry, RowStore
from embeddings.services.cache.writer import BackgroundWriter
from providers.state import StoreUnavailable
from providers.state.timed import Rest

# How often a process looks whether another one cleared the cache, and tells which rows it used in its own memory.
LOOK_SECONDS = 1.0
TELL_SECONDS = 60.0
REST_SECONDS = 5.0  # how long a store that failed is left alone
LOG_SECONDS = 60.0

Answer = TypeVar("Answer")
Given = ParamSpec("Given")
WRITES = ("write", "forget", "clear")

log = structlog.get_logger(__name__)


class SharedRows:
    """Reads at once, writes in the background, and asks for the generation once in a while.

    `newly_used`: tells which rows were used since it was last asked. Without a store, or while it fails, nothing is
    there. A full disk stops the writes and not the reads, so they are left alone apart.
    """

    timer = staticmethod(time.monotonic)
    clock = staticmethod(time.time)

    def __init__(
        self, store: RowStore | None, *, newly_used: Callable[[], list[bytes]]
    ) -> None:
        self._store = store
        self._writer = BackgroundWriter(self._write)
        self._newly_used = newly_used
        self._lock = threading.Lock()
        self._reads, self._writes = (
            Rest(REST_SECONDS, timer=lambda: self.timer()) for _ in range(2)
        )
        self._logged_at = -LOG_SECONDS
        self._look_at = 0.0
        self._tell_at = 0.0
        self._clear_is_due = False

    def looked_up_generation(self) -> int | None:
        """Return the generation, if the store can tell and it is time to look for a new one."""
        now = self.timer()
        if now < self._look_at:
            return None
        with self._lock:
            if now < self._look_at:
                return None
            self._look_at = now + LOOK_SECONDS
        if self._clear_is_due:
            cleared = self.clear()
            return cleared.generation if cleared else None
        return self._ask(RowStore.generation)

    def read(
        self, keys: Sequence[bytes], *, generation: int | None
    ) -> dict[bytes, tuple[float, Row]]:
        """Return the rows that are there, each with its age in seconds."""
        if generation is None:
            return {}
        found = self._ask(RowStore.read, keys, generation=generation) or {}
        if found:
            self._writer.put({}, generation=generation)  # to tell that they were used
        now = self.clock()
        return {key: (max(0.0, now - at), row) for key, (at, row) in found.items()}

    def write(self, rows: Mapping[bytes, Row], *, generation: int | None) -> None:
        """Have rows written soon, unless a clear comes first."""
        if generation is not None:
            now = self.clock()
            entries = {key: Entry(now, row) for key, row in rows.items()}
            self._writer.put(entries, generation=generation)

    def forget(self, keys: Sequence[bytes], *, generation: int | None) -> None:
        if generation is not None:
            self._writer.flush()
            self._ask(RowStore.forget, keys, generation=generation)

    def size(self, *, generation: int | None) -> int | None:
        if generation is None:
            return None
        return self._ask(RowStore.size, generation=generation)

    def clear(self) -> Cleared | None:
        """Clear the store; if it cannot be asked now, then as soon as it can."""
        self._writer.flush()  # so that what is on its way counts
        cleared = self._ask(RowStore.clear)
        self._clear_is_due = cleared is None
        return cleared

    def close(self) -> None:
        """Write what is pending, and let go of the store."""
        self._writer.close()
        if self._store is not None:
            self._store.close()

    def flush(self) -> None:
        self._writer.flush()

    def _write(self, entries: Mapping[bytes, Entry], generation: int) -> None:
        used: list[bytes] = []
        if self.timer() >= self._tell_at:
            self._tell_at = self.timer() + TELL_SECONDS
            used = self._newly_used()
        if entries or used:
            self._ask(RowStore.write, entries, used=used, generation=generation)

    def _ask(
        self,
        operation: Callable[Concatenate[RowStore, Given], Answer],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Answer | None:
        """Ask the store, if there is one. Where it fails, count that, say so once in a while and return None."""
        name = operation.__name__
        rest = self._writes if name in WRITES else self._reads
        if self._store is None or not rest.may_ask():
            return None
        try:
            answer: Answer = getattr(self._store, name)(*args, **kwargs)
        except StoreUnavailable as error:
            rest.failed()
            self._note(self._store.name, name, reason=str(error))
            return None
        if rest.failing:
            rest.worked()
            log.info("cache_store_available", store=self._store.name)
        return answer

    def _note(self, name: str, operation: str, *, reason: str) -> None:
        request_metrics.cache_store_failures.labels(name, operation).inc()
        now = self.timer()
        with self._lock:
            silent = now - self._logged_at < LOG_SECONDS
            if not silent:
                self._logged_at = now
        if not silent:
            log.warning(
                "cache_store_unavailable",
                store=name,
                operation=operation,
                reason=reason,
            )
