"""What callers used, counted in memory and added to the database every few seconds: never a write per request.

A clean stop loses nothing; a killed process loses what it counted since the last flush.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog
from django.db import DatabaseError, InterfaceError, connection

from embeddings.conf import conf
from embeddings.services import request_metrics
from embeddings.services.callers import Caller
from embeddings.services.errors import ServiceError
from embeddings.services.types import EmbeddingRequest, EmbeddingResult, Target
from embeddings.services.usage.commits import Commit
from embeddings.services.usage.counts import Account, Counts, Place, store
from embeddings.services.usage.events import Event, opened
from embeddings.services.usage.retention import Retention
from embeddings.services.usage.telemetry import telemetry
from embeddings.services.usage.traffic import TrafficCounts
from providers.exceptions import ProviderError
from providers.state.process import at_end, owned
from providers.tracing import reason_of

HOUR_SECONDS = 3600
# While the database is away, counts of further places are summed up in one place, so that memory stays bounded.
MAX_PLACES = 20_000
OVERFLOW = Caller(id="(overflow)", username="(overflow)", is_admin=False)
NAME_LENGTH = 200

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Tokens, and cost in units of 10^-10 US dollars."""

    tokens: int = 0
    cost: int = 0


@dataclass(slots=True)
class _Page:
    """Accounts by caller id, and how many places they hold together; and the traffic of all."""

    accounts: dict[str, Account] = field(default_factory=dict)
    places: int = 0
    traffic: TrafficCounts = field(default_factory=TrafficCounts)

    def __bool__(self) -> bool:
        return bool(self.accounts or self.traffic)

    def add(self, caller: Caller, place: Place, counts: Counts) -> None:
        known = self.accounts.get(caller.id)
        if known is None or place not in known.places:
            if self.places >= MAX_PLACES:
                caller, place = OVERFLOW, Place(hour=place.hour, provider="", model="")
            known = self.accounts.setdefault(caller.id, Account(caller=caller))
            self.places += place not in known.places
        known.add(place, counts)

    def merge(self, older: "_Page") -> None:
        """Take back what could not be stored."""
        self.traffic.merge(older.traffic)
        for account in older.accounts.values():
            for place, counts in account.places.items():
                self.add(account.caller, place, counts)
            if mine := self.accounts.get(account.caller.id):
                mine.add_end_users(account.end_users)


class Ledger:
    """The counts of one process."""

    clock = staticmethod(time.time)

    def __init__(self, *, flush_seconds: float) -> None:
        self._flush_seconds = flush_seconds
        self._lock = threading.Lock()  # around the pages
        self._flush_lock = threading.Lock()  # one flush at a time
        self._page = _Page()
        self._being_stored = _Page()
        self._commit = Commit()
        self._retention = Retention()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.flushes = 0

    def record(self, event: Event) -> None:
        """Count a request that has ended, whoever it was of, and put it into the log of requests."""
        with self._lock:
            self._page.traffic.add(event)
            self._start()
        request_metrics.ended(event.endpoint, event.status)
        if (sender := telemetry()) is not None:
            sender.record(event)

    def answered(
        self, request: EmbeddingRequest, result: EmbeddingResult, *, asked: str = ""
    ) -> None:
        """Count a request that got its vectors for its caller; `asked`: what it asked for."""
        counts = Counts(
            requests=1,
            texts=len(result.vectors),
            tokens=result.prompt_tokens,
            cache_hits=result.cache_hits,
            cost=result.cost,
        )
        place = Place(
            hour=self._hour(),
            provider=result.target.provider.name,
            model=result.target.model.name[:NAME_LENGTH],
            asked=asked,
        )
        self._add(request.caller, place, counts, end_user=request.user)

    def failed(self, caller: Caller, target: Target | None = None) -> None:
        """Count a request that failed, at the model it was for if that is a known one."""
        place = Place(
            hour=self._hour(),
            provider=target.provider.name if target else "",
            model=request_metrics.model_label(target)[:NAME_LENGTH] if target else "",
        )
        self._add(caller, place, Counts(errors=1))

    def pending(self, owner: str, *, since: float) -> Spent:
        """Return what `owner` (see Caller.limits_owner) used since then (seconds), as far as it is not stored yet."""
        with self._lock:
            accounts = [
                account
                for page in (self._page, self._being_stored)
                for account in page.accounts.values()
                if owner in (account.caller.id, f"user:{account.caller.user_id}")
            ]
            counts = [
                counts
                for account in accounts
                for place, counts in account.places.items()
                if place.hour >= since
            ]
        return Spent(
            tokens=sum(c.tokens for c in counts), cost=sum(c.cost for c in counts)
        )

    def flush(self) -> bool:
        """Add the counts to the database. If that fails they are kept for the next time, and False is returned."""
        with self._flush_lock:
            try:
                return self._flush()
            except (DatabaseError, InterfaceError) as error:
                log.warning("usage_not_stored", reason=type(error).__name__)
                return False

    def close(self) -> None:
        """Store what is left, and stop the thread."""
        self._stopped.set()
        self.flush()

    def _flush(self) -> bool:
        if self._commit.in_doubt:
            took_place = self._commit.took_place()
            if took_place is None:
                return False
            self._settle(stored=took_place)
        with self._lock:
            self._being_stored, self._page = self._page, _Page()
        if self._being_stored:
            self._store(self._being_stored)
        return True

    def _store(self, page: _Page) -> None:
        try:
            store(page.accounts.values(), page.traffic, self._commit)
        except BaseException:
            if not self._commit.in_doubt:
                self._settle(stored=False)
            raise
        self._settle(stored=True)

    def _settle(self, *, stored: bool) -> None:
        """Forget the counts that are stored, or take them back."""
        with self._lock:
            done, self._being_stored = self._being_stored, _Page()
            if stored:
                self.flushes += 1
            else:
                self._page.merge(done)

    def _add(
        self,
        caller: Caller,
        place: Place,
        counts: Counts,
        *,
        end_user: str | None = None,
    ) -> None:
        with self._lock:
            self._page.add(caller, place, counts)
            if end_user and (account := self._page.accounts.get(caller.id)):
                account.add_end_user(end_user, place.hour, counts)
            self._start()

    def _start(self) -> None:
        """Start the thread that stores, with the first that is counted; the lock is held."""
        if self._thread is not None or not self._flush_seconds:
            return
        self._thread = threading.Thread(
            target=self._run, name="usage-flush", daemon=True
        )
        self._thread.start()
        at_end(self.close)

    def _run(self) -> None:
        while not self._stopped.wait(self._flush_seconds):
            try:
                self.flush()
                self._retention.when_due()
            except Exception:
                log.exception("usage_flush_failed")  # the counts are kept
            finally:
                connection.close()  # this thread's own

    def _hour(self) -> int:
        now = int(self.clock())
        return now - now % HOUR_SECONDS


@owned
def usage() -> Ledger:
    """Return the process-wide ledger."""
    return Ledger(flush_seconds=conf().usage_flush_seconds)


@contextlib.contextmanager
def recorded(event: Event) -> Iterator[Event]:
    """Keep and count the record of embeddings that nobody asked for over HTTP."""
    if (sender := telemetry()) is not None:
        event.trace = sender.begun(event.endpoint)
    try:
        with opened(event):
            yield event
    except (ServiceError, ProviderError) as error:
        event.status = 500
        event.code = reason_of(error)
        raise
    finally:
        usage().record(event)
