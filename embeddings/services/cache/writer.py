"""Rows on their way to the store: no answer waits for them."""

import threading
from collections.abc import Callable, Mapping
from itertools import islice

import structlog

from embeddings.services.cache.row_store import Entry
from providers.state.process import at_end

FLUSH_SECONDS = 0.1  # within which rows of several requests become one write
ROWS_A_WRITE = 256
# The largest request is 2048 rows of 3072 dimensions, 24 MiB. What comes while so much waits is not stored.
MAX_PENDING_BYTES = 32 * 2**20

Write = Callable[[Mapping[bytes, Entry], int], None]

log = structlog.get_logger(__name__)


class BackgroundWriter:
    """Hand rows to `write`, with their generation, in a thread that starts with the first ones."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._lock = threading.Lock()  # around what is pending
        self._flush_lock = threading.Lock()  # one flush at a time
        self._pending: dict[bytes, Entry] = {}
        self._pending_bytes = 0
        self._generation = 0
        self._awake, self._stopped = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, entries: Mapping[bytes, Entry], *, generation: int) -> None:
        """Take rows to be written soon. Without rows, `write` is still called."""
        size = sum(len(entry.row) for entry in entries.values())
        with self._lock:
            if generation != self._generation:
                self._pending, self._pending_bytes = {}, 0
                self._generation = generation
            if self._pending_bytes + size <= MAX_PENDING_BYTES:
                self._pending.update(entries)
                self._pending_bytes += size
            if self._thread is None:
                self._start()
        self._awake.set()

    def flush(self) -> None:
        """Write what is pending, and return when it is written."""
        with self._flush_lock:
            with self._lock:
                pending, self._pending = self._pending, {}
                self._pending_bytes = 0
                generation = self._generation
            rest = iter(pending.items())
            part = dict(islice(rest, ROWS_A_WRITE))
            self._write(part, generation)
            while part := dict(islice(rest, ROWS_A_WRITE)):
                self._write(part, generation)

    def close(self) -> None:
        """Write what is left, and stop the thread."""
        self._stopped.set()
        self._awake.set()
        if self._thread is not None:
            self._at_end.cancel()
            self.flush()

    def _start(self) -> None:
        self._thread = threading.Thread(
            target=self._run, name="cache-writer", daemon=True
        )
        self._thread.start()
        self._at_end = at_end(self.close)

    def _run(self) -> None:
        while self._awake.wait() and not self._stopped.wait(FLUSH_SECONDS):
            self._awake.clear()
            try:
                self.flush()
            except Exception:
                log.exception("cache_flush_failed")  # only the cache loses these rows
