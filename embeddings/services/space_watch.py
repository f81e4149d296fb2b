"""When remote spaces are checked: beside the requests that use them, and before and after vectors that are stored.

A request never waits for a check: it asks for one after its answer if one is due, and a thread of its own makes it.
What writes into a stored index waits, and is refused where the vectors are no longer those of the space.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections

from embeddings.services import request_metrics
from embeddings.services.cache.cache import embedding_cache
from providers.base import ModelSpec, Provider
from providers.canary import LEASE, Canary, Verdict, address_key, canary
from providers.exceptions import (
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    SpaceDrifted,
)
from providers.models import RemoteSpace
from providers.registry import registry
from providers.state.process import owned

# After a check that failed, or that another process makes; the row itself says when it is due.
LOOK_AGAIN_SECONDS = 60.0
# While another process checks what this one must know.
WAIT_SECONDS = 0.2
MAX_PENDING = 100
MAX_LOOKS = 10_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What this process knows: nothing is due `until` then, for this provider object, while `drifted` is as it was.

    `known`: the space was found checked, and not only looked for.
    """

    provider: Provider
    drifted: bool
    until: float
    known: bool


class SpaceWatch:
    """The remote spaces that this process uses. One thread at a time makes the checks that no request waits for."""

    timer = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    def __init__(
        self, canary: Canary, *, start: Callable[[Callable[[], None]], None]
    ) -> None:
        self._canary = canary
        self._start = start
        self._looks: dict[tuple[str, str], _Look] = {}
        self._pending: dict[tuple[str, str], tuple[Provider, ModelSpec]] = {}
        self._busy = False
        self._lock = threading.Lock()  # around what is pending

    def answered(self, provider: Provider, model: ModelSpec) -> None:
        """Have a remote model that has just answered checked, if that is due."""
        if self._looked(provider, model) or not settings.EMBEDDINGS_CANARY:
            return
        with self._lock:
            if len(self._pending) < MAX_PENDING:
                self._pending.setdefault((provider.name, model.name), (provider, model))
            if self._busy or not self._pending:
                return
            self._busy = True
        self._start(self._check_pending)

    def confirm(
        self, provider: Provider, model: ModelSpec, *, again: bool = False
    ) -> None:
        """See that `model` gives the vectors of its space: by a check that is not due yet, or `again` by a new one.

        Raises SpaceDrifted if it does not, another ProviderError if that cannot be learnt now, DatabaseError.
        """
        if provider.local or not settings.EMBEDDINGS_CANARY:
            return
        if registry().members(provider.name):
            _confirm_pool(provider, model)  # whoever answers is confirmed after that
            return
        look = self._looked(provider, model)
        if look and look.known and not (again or model.drifted):
            return
        _judge(provider, model, self._verdict(provider, model, again=again))

    def confirm_member(
        self, pool: Provider, member: Provider, model: ModelSpec
    ) -> None:
        """See by a new check that `member` of a pool gives the vectors of `model`. Raises as `confirm` does."""
        if not settings.EMBEDDINGS_CANARY:
            return
        other = None if member.name == pool.name else pool
        verdict = self._verdict(member, model, pool=other, again=True)
        _judge(pool, model, verdict)

    def _looked(self, provider: Provider, model: ModelSpec) -> _Look | None:
        """Return what is known, unless it is time to look again."""
        look = self._looks.get((provider.name, model.name))
        if look is None or self.timer() >= look.until:
            return None
        same = look.provider is provider and look.drifted == model.drifted
        return look if same else None

    def _verdict(
        self,
        provider: Provider,
        model: ModelSpec,
        *,
        again: bool,
        pool: Provider | None = None,
    ) -> Verdict:
        """Return how the space stands, waiting for another process's check if one is under way."""
        since = self._canary.clock() if again else None
        give_up_at = self.timer() + 2 * LEASE.total_seconds()
        while self.timer() < give_up_at:
            verdict = self.checked(provider, model, pool=pool, since=since, urgent=True)
            if verdict is not None:
                return verdict
            self.sleep(WAIT_SECONDS)
        raise ProviderTimeout(
            f"Other processes keep checking {provider.name}:{model.name}."
        )

    def checked(
        self,
        provider: Provider,
        model: ModelSpec,
        *,
        pool: Provider | None = None,
        since: datetime | None = None,
        urgent: bool = False,
    ) -> Verdict | None:
        """Check, remember the outcome, and forget cached vectors where it changed: some may be of the other kind.

        Arguments and errors are those of `Canary.check`.
        """
        labels = _labels(provider, model)
        if pool is None:
            self._remember(provider, model, None)
        try:
            verdict = self._canary.check(
                provider, model, pool=pool, since=since, urgent=urgent
            )
        except ProviderError:
            request_metrics.space_check_failures.labels(*labels).inc()
            raise
        if pool is None:
            self._remember(provider, model, verdict)
        if verdict and verdict.changed:
            embedding_cache().clear()
            if verdict.drifted:
                request_metrics.space_drifts.labels(*labels).inc()
        return verdict

    def _remember(
        self, provider: Provider, model: ModelSpec, verdict: Verdict | None
    ) -> None:
        if len(self._looks) >= MAX_LOOKS:
            self._looks.clear()
        seconds = verdict.fresh_seconds if verdict else LOOK_AGAIN_SECONDS
        self._looks[provider.name, model.name] = _Look(
            provider=provider,
            drifted=model.drifted,
            until=self.timer() + seconds,
            known=verdict is not None and verdict.known,
        )

    def _check_pending(self) -> None:
        while (due := self._next_pending()) is not None:
            provider, model = due
            try:
                self.checked(provider, model)
            except (ProviderError, DatabaseError, InterfaceError) as error:
                reason = getattr(error, "reason", type(error).__name__)
                log.warning("space_check_failed", provider=provider.name, reason=reason)
            except Exception:  # a third party's code may raise anything
                log.exception("space_check_crashed", provider=provider.name)

    def _next_pending(self) -> tuple[Provider, ModelSpec] | None:
        with self._lock:
            if not self._pending:
                self._busy = False
                return None
            return self._pending.pop(next(iter(self._pending)))


@owned
def space_watch() -> SpaceWatch:
    """Return the process-wide watch."""
    return SpaceWatch(canary(), start=start_thread)


def drift_sentence(label: str) -> str:
    """Say what is wrong, and what an operator can do."""
    return (
        f"{label} no longer gives the vectors that are stored under its name;"
        " bring the former model back, or accept the new one in the console, under remote spaces."
    )


def _judge(provider: Provider, model: ModelSpec, verdict: Verdict) -> None:
    if verdict.drifted:
        raise SpaceDrifted(drift_sentence(f"{provider.name}:{model.name}"))
    _same_revision(provider, model, verdict.revision)


def _confirm_pool(provider: Provider, model: ModelSpec) -> None:
    """See that the pool's model is what it was when `model` was found, and somebody gives its vectors."""
    found = registry().resolve(provider, model.name) or model
    if found.drifted:
        raise SpaceDrifted(drift_sentence(f"{provider.name}:{model.name}"))
    _same_revision(provider, model, found.space_revision)


def _same_revision(provider: Provider, model: ModelSpec, revision: int) -> None:
    if revision != model.space_revision:
        raise ProviderUnavailable(
            f"{provider.name}:{model.name} was accepted as another revision a moment ago.",
            retry_after_seconds=5,
        )


def spaces_in_use() -> list[tuple[Provider, RemoteSpace]]:
    """Return the spaces at the addresses that the providers have now; none while the database is away."""
    if not settings.EMBEDDINGS_CANARY:
        return []
    try:
        rows = list(RemoteSpace.objects.filter(pool="").defer("reference", "seen"))
    except (DatabaseError, InterfaceError):
        return []
    placed = ((registry().get(row.provider), row) for row in rows)
    return [
        (provider, row)
        for provider, row in placed
        if provider and row.address == address_key(provider.address())
    ]


def show_drift() -> None:
    """Have the metrics show which spaces drifted; models that nobody listed are shown as one."""
    drifted: Counter[tuple[str, str]] = Counter()
    for provider, row in spaces_in_use():
        label = request_metrics.listed_name(provider, row.model)
        drifted[provider.name, label] += row.state == RemoteSpace.State.DRIFTED
    for labels, count in drifted.items():
        request_metrics.space_drift.labels(*labels).set(bool(count))


def _labels(provider: Provider, model: ModelSpec) -> tuple[str, str]:
    return provider.name, request_metrics.listed_name(provider, model.name)


def start_thread(work: Callable[[], None]) -> None:
    """Do `work` in a thread that ends with the process, and closes its connection to the database."""

    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    threading.Thread(target=run, name="space-check", daemon=True).start()
