"""Circuit breakers: a provider that keeps failing is left alone for a while (CONTRACT section 8).

State lives in the database, so all processes see one breaker. Every change is one conditional UPDATE; no lock is held
while a provider is called. A breaker without failures is not looked at again for a second, so that good requests cost
no query; what other processes saw fail counts from then on. When the database does not answer, calls go through: a
breaker must never turn a good provider's answer into an error. Each change of state is noted (`BreakerChange`); what
goes wrong with that changes nothing else.
"""

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import F, Q
from django.utils import timezone

from providers import metrics
from providers.base import probing
from providers.exceptions import Abandoned, BreakerOpen, ProviderError
from providers.models import Breaker, BreakerChange
from providers.state.process import owned

FAILURES_TO_OPEN = 5
SUCCESSES_TO_CLOSE = 2
OPEN_SECONDS = 60
# A probe whose process died is forgotten after this; longer than any request may take.
PROBE_LEASE_SECONDS = 660
# How long a change may wait for a lock on the row or, with SQLite, on the database.
LOCK_WAIT_MILLISECONDS = 500
# Changes of state that are kept for each provider.
KEPT_CHANGES = 500

CLOSED, OPEN, HALF_OPEN = (
    Breaker.State.CLOSED,
    Breaker.State.OPEN,
    Breaker.State.HALF_OPEN,
)
LOOK_AGAIN_SECONDS = 1.0
DATABASE_PROBLEMS = (DatabaseError, InterfaceError)

log = structlog.get_logger(__name__)


@contextlib.contextmanager
def guarded(provider: str) -> Iterator[None]:
    """Call a provider inside of this: raises BreakerOpen instead of calling, and learns from how the call ended."""
    elected = _admit(provider)
    token = probing.set(elected)
    try:
        yield
    except ProviderError as error:
        _learn(provider, error, elected=elected)
        raise
    except BaseException:
        _release(provider, elected=elected)
        raise
    finally:
        probing.reset(token)
    if elected or not _spotless(provider):
        _record_success(provider, elected=elected)


@owned
def _looked_at() -> dict[str, float]:
    """Provider -> when its breaker was last seen closed and without failures, by the monotonic clock."""
    return {}


def reset(provider: str, *, by: str = "") -> None:
    """Close the breaker and forget its failures, in all processes at once."""
    before = Breaker.objects.filter(provider=provider).first()
    Breaker.objects.filter(provider=provider).update(
        state=CLOSED,
        failure_count=0,
        success_count=0,
        opened_at=None,
        retry_at=None,
        probe_until=None,
        last_error="",
    )
    metrics.breaker_state.labels(provider).set(0)
    log.info("breaker_reset", provider=provider)
    if before and before.state != CLOSED:
        _note(provider, before.state, CLOSED, f"Reset{f' by {by}' if by else ''}.")


def forget(provider: str) -> None:
    """Let go of the breaker of a provider that is deleted; the metrics show it closed until the next start."""
    reset(provider)
    Breaker.objects.filter(provider=provider).delete()
    BreakerChange.objects.filter(provider=provider).delete()


def is_closed(provider: str) -> bool:
    """Whether calls go through without being probes; also while the database is away."""
    if _spotless(provider):
        return True
    try:
        row = _looked_at_now(provider)
    except DATABASE_PROBLEMS:
        return True
    return row is None or row.state == CLOSED


def open_until(provider: str) -> datetime | None:
    """Return when the next call will be let through; None if one would be now, or the database is away."""
    if _spotless(provider):
        return None
    try:
        row = Breaker.objects.filter(provider=provider, state=OPEN).first()
    except DATABASE_PROBLEMS:
        return None
    now = timezone.now()
    if row is None or row.retry_at is None:
        return None
    longest = timedelta(seconds=2 * OPEN_SECONDS)  # further ahead: set back
    return row.retry_at if now < row.retry_at <= now + longest else None


def refusal(provider: str) -> str | None:
    """Say why the next call would not be let through; None if it would be. Nothing is changed."""
    now = timezone.now()
    try:
        row = Breaker.objects.filter(provider=provider).exclude(state=CLOSED).first()
        free = row is None or Breaker.objects.filter(_free(now), pk=row.pk).exists()
    except DATABASE_PROBLEMS:
        return None
    return None if free else _open_sentence(provider)


def retry_after(provider: str) -> float | None:
    """Return the seconds until a breaker that is not closed lets a call through, at least 1; None if it is closed."""
    try:
        row = Breaker.objects.filter(provider=provider).exclude(state=CLOSED).first()
    except DATABASE_PROBLEMS:
        log.warning("breaker_unavailable", provider=provider, exc_info=True)
        return None
    return _seconds_until(row.retry_at, timezone.now()) if row else None


def _admit(provider: str) -> bool:
    """Return whether this call is the elected probe. Raises BreakerOpen."""
    if _spotless(provider):
        return False
    now = timezone.now()
    try:
        row = _looked_at_now(provider)
        if row is None or row.state == CLOSED:
            return False
        lease = now + timedelta(seconds=PROBE_LEASE_SECONDS)
        elected = _update(provider, _free(now), state=HALF_OPEN, probe_until=lease)
    except DATABASE_PROBLEMS:
        log.warning("breaker_unavailable", provider=provider, exc_info=True)
        return False
    if elected:
        if row.state == OPEN:
            _note(provider, OPEN, HALF_OPEN, "One call is let through as a probe.")
        return True
    raise BreakerOpen(
        _open_sentence(provider),
        retry_after_seconds=_seconds_until(row.retry_at, now),
    )


def _free(now: datetime) -> Q:
    """Of which rows that are not closed the next call would be let through, as a probe."""
    over = _is_over("probe_until", now, seconds=PROBE_LEASE_SECONDS)
    free = Q(state=OPEN) & _is_over("retry_at", now, seconds=OPEN_SECONDS)
    return free | Q(state=HALF_OPEN) & (Q(probe_until=None) | over)


def _open_sentence(provider: str) -> str:
    return f"The circuit breaker of {provider} is open."


def _looked_at_now(provider: str) -> Breaker | None:
    """Return the row, and remember it for a moment if it is closed and without failures. Raises DatabaseError."""
    looked_at = time.monotonic()
    row = Breaker.objects.filter(provider=provider).first()
    if row is None or (row.state == CLOSED and row.failure_count == 0):
        _looked_at()[provider] = looked_at
    return row


def _spotless(provider: str) -> bool:
    """Whether the breaker was closed and without failures a moment ago."""
    looked_at = _looked_at().get(provider)
    return looked_at is not None and time.monotonic() - looked_at < LOOK_AGAIN_SECONDS


def _learn(provider: str, error: ProviderError, *, elected: bool) -> None:
    if error.trips_breaker:
        _record_failure(provider, error.message, elected=elected)
    # Nothing was learnt: no key, a full queue, or a client that left.
    elif error.falls_back or isinstance(error, Abandoned):
        _release(provider, elected=elected)
    else:  # it refused the request, so it is alive
        _record_success(provider, elected=elected)


def _record_success(provider: str, *, elected: bool) -> None:
    with _forgiving(provider):
        if not elected:
            if Breaker.objects.filter(
                provider=provider, state=CLOSED, failure_count__gt=0
            ).exists():
                _update(provider, Q(state=CLOSED), failure_count=0)
            return
        half_open = {"state": HALF_OPEN, "success_count__gte": SUCCESSES_TO_CLOSE - 1}
        if _update(
            provider,
            Q(**half_open),
            state=CLOSED,
            failure_count=0,
            success_count=0,
            probe_until=None,
        ):
            _note(provider, HALF_OPEN, CLOSED, "The probes were answered.")
        elif not _update(
            provider,
            Q(state=HALF_OPEN),
            success_count=F("success_count") + 1,
            probe_until=None,
        ):
            return
        _show(provider)


def _record_failure(provider: str, message: str, *, elected: bool) -> None:
    _looked_at().pop(provider, None)
    now = timezone.now()
    retry_at = now + timedelta(seconds=OPEN_SECONDS)
    opened = {
        "state": OPEN,
        "opened_at": now,
        "retry_at": retry_at,
        "success_count": 0,
        "probe_until": None,
    }
    with _forgiving(provider):
        if elected:
            before = HALF_OPEN
            did = _update(
                provider, Q(state=HALF_OPEN), last_error=message[:300], **opened
            )
        else:
            before = CLOSED
            Breaker.objects.bulk_create(
                [Breaker(provider=provider)], ignore_conflicts=True
            )
            _update(
                provider,
                Q(state=CLOSED),
                failure_count=F("failure_count") + 1,
                last_error=message[:300],
            )
            did = _update(
                provider, Q(state=CLOSED, failure_count__gte=FAILURES_TO_OPEN), **opened
            )
        if did:
            _note(provider, before, OPEN, message)
        _show(provider)


def _release(provider: str, *, elected: bool) -> None:
    """Let another call probe."""
    if elected:
        with _forgiving(provider):
            _update(provider, Q(state=HALF_OPEN), probe_until=None)


def _update(provider: str, condition: Q, **changes: object) -> bool:
    """Change the row if `condition` still holds, waiting only briefly for a lock; return whether it did."""
    with _short_lock_wait():
        return bool(
            Breaker.objects.filter(condition, provider=provider).update(**changes)
        )


def _note(provider: str, from_state: str, to_state: str, reason: str) -> None:
    """Keep what happened, the newest changes only. Nothing that goes wrong here reaches the caller."""
    try:
        with _short_lock_wait(), transaction.atomic():
            BreakerChange.objects.create(
                provider=provider,
                from_state=from_state,
                to_state=to_state,
                reason=reason[:300],
            )
            rows = BreakerChange.objects.filter(provider=provider)
            oldest = rows.values_list("pk", flat=True)[KEPT_CHANGES : KEPT_CHANGES + 1]
            for pk in oldest:
                rows.filter(pk__lte=pk).delete()
    except Exception:  # the provider's answer counts
        log.warning("breaker_change_not_noted", provider=provider, exc_info=True)


@contextlib.contextmanager
def _short_lock_wait() -> Iterator[None]:
    if connection.vendor != "sqlite":
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT_MILLISECONDS}ms'")
            yield
        return
    with connection.cursor() as cursor:
        before = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout = {LOCK_WAIT_MILLISECONDS}")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {int(before)}")


@contextlib.contextmanager
def _forgiving(provider: str) -> Iterator[None]:
    """Note that the database is away and go on: the provider's answer counts."""
    try:
        yield
    except DATABASE_PROBLEMS:
        log.warning("breaker_unavailable", provider=provider, exc_info=True)


def _show(provider: str) -> None:
    """Show the state in the metrics, and in the log when it is not closed."""
    row = Breaker.objects.filter(provider=provider).first()
    if row:
        metrics.breaker_state.labels(provider).set(metrics.BREAKER_STATES[row.state])
        if row.state != CLOSED:
            log.warning(
                "breaker_state",
                provider=provider,
                state=row.state,
                last_error=row.last_error,
            )


def _is_over(field: str, now: datetime, *, seconds: float) -> Q:
    """Whether the moment in `field`, once set `seconds` ahead, is over, or so far ahead that the clock was set back."""
    far = now + timedelta(seconds=2 * seconds)
    return Q(**{f"{field}__lte": now}) | Q(**{f"{field}__gt": far})


def _seconds_until(moment: datetime | None, now: datetime) -> float:
    """Return the seconds until `retry_at`; of one that a clock set back left far ahead, as if it were set now."""
    ahead = (moment - now).total_seconds() if moment else 0.0
    return min(max(1.0, ahead), OPEN_SECONDS)
