"""A store whose faults nobody notices but the operator."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import structlog

from embeddings.services import request_metrics
from embeddings.services.cache.row_store import Cleared, Entry, RowStore
from providers.state import StoreUnavailable
from providers.state.timed import Rest

REST_SECONDS = 5.0  # how long a store that failed is left alone
LOG_SECONDS = 60.0

Answer = TypeVar("Answer")
Operation = Literal["generation", "read", "write", "forget", "size", "clear"]
WRITES = ("write", "forget", "clear")

log = structlog.get_logger(__name__)


class GuardedStore:
    """Ask a store, if there is one. Where it fails, count that, say so once in a while and answer None.

    A full disk stops the writes and not the reads, so they are left alone apart.
    """

    timer = staticmethod(time.monotonic)

    def __init__(self, store: RowStore | None) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._reads, self._writes = (
            Rest(REST_SECONDS, timer=lambda: self.timer()) for _ in range(2)
        )
        self._logged_at = -LOG_SECONDS

    def generation(self) -> int | None:
        return self._ask("generation", lambda store: store.generation())

    def read(self, keys: Sequence[bytes], *, generation: int) -> dict[bytes, Entry]:
        """Return what is there; nothing if the store cannot be asked."""
        return (
            self._ask("read", lambda store: store.read(keys, generation=generation))
            or {}
        )

    def write(
        self, entries: Mapping[bytes, Entry], *, used: Sequence[bytes], generation: int
    ) -> None:
        self._ask(
            "write",
            lambda store: store.write(entries, used=used, generation=generation),
        )

    def forget(self, keys: Sequence[bytes], *, generation: int) -> None:
        self._ask("forget", lambda store: store.forget(keys, generation=generation))

    def size(self, *, generation: int) -> int | None:
        return self._ask("size", lambda store: store.size(generation=generation))

    def clear(self) -> Cleared | None:
        return self._ask("clear", lambda store: store.clear())

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def _ask(
        self, operation: Operation, ask: Callable[[RowStore], Answer]
    ) -> Answer | None:
        rest = self._writes if operation in WRITES else self._reads
        if self._store is None or not rest.may_ask():
            return None
        try:
            answer = ask(self._store)
        except StoreUnavailable as error:
            rest.failed()
            self._note(self._store.name, operation, reason=str(error))
            return None
        if rest.failing:
            rest.worked()
            log.info("cache_store_available", store=self._store.name)
        return answer

    def _note(self, name: str, operation: Operation, *, reason: str) -> None:
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
