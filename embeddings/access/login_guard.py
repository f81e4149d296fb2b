"""Protection of logins against guessing: per name and address, and per address; in the database, for all processes.

An attempt is counted before the password is looked at and taken back when it was right, so that no number of attempts
made at once gets more guesses than one after the other would.
"""

import hashlib
import math
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from embeddings.access.login_records import note_failure, note_login
from embeddings.models import AuditEntry, LoginFailures

FIRST_LOCK_SECONDS = 30
LONGEST_LOCK_SECONDS = 3600
SKEW_SECONDS = 60  # between the clocks of machines
KEPT_DAYS = 7

now = timezone.now
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How many failures are free, and how often one of them is forgotten."""

    of: str
    free: int
    forgotten_every: timedelta


BY_ADDRESS = Rule(of="address", free=30, forgotten_every=timedelta(minutes=10))
BY_NAME_AND_ADDRESS = Rule(of="name", free=5, forgotten_every=timedelta(hours=1))


class LockedOut(Exception):
    """Too many failures; the password was not looked at."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"Too many failed logins; wait {retry_after_seconds} seconds.")
        self.retry_after_seconds = retry_after_seconds


@contextmanager
def guarded_login(
    *, username: str, address: str, source: AuditEntry.Source = AuditEntry.Source.API
) -> Iterator[None]:
    """Surround the check of a password; leaving by any exception counts as a failure. Raises LockedOut.

    Both ends are in the audit log, as of `source`; see login_records.py.
    """
    sources = {
        _digest("address", address): BY_ADDRESS,
        _digest("name", _folded(username), address): BY_NAME_AND_ADDRESS,
    }
    try:
        locks = _count(sources)
    except LockedOut as locked:
        log.warning(
            "login_locked_out", address=address, seconds=locked.retry_after_seconds
        )
        raise
    try:
        yield
    except Exception:
        log.warning("login_failed", address=address)
        note_failure(source, username, address, locks)
        raise
    _take_back(sources)
    note_login(source, username, address)


def _count(sources: dict[str, Rule]) -> dict[str, int]:
    """Count one failure at each source, unless one of them is locked: then none. Raises LockedOut.

    Return the seconds of each lock that begins with it, if it is one, by what is locked.
    """
    with transaction.atomic():
        # Always in the same order, so that two attempts at once wait for each other rather than lock each other out.
        rows = [(_row(source), rule) for source, rule in sources.items()]
        moment = (
            now()
        )  # after the wait for the rows, or time would seem to run backwards
        seconds = max(_locked_for(row, rule, moment) for row, rule in rows)
        if seconds > 0:
            raise LockedOut(math.ceil(seconds))
        for row, rule in rows:
            _add_one(row, rule, moment)
            row.save()
    return {rule.of: _lock_seconds(row, rule) for row, rule in rows if row.locked_until}


def _row(source: str) -> LoginFailures:
    moment = now()
    row, made = LoginFailures.objects.select_for_update().get_or_create(
        source=source, defaults={"last_at": moment}
    )
    if made:
        forgotten = moment - timedelta(days=KEPT_DAYS)
        LoginFailures.objects.filter(last_at__lt=forgotten).delete()
    return row


def _add_one(row: LoginFailures, rule: Rule, moment: datetime) -> None:
    """Forget what time has healed, count one more, and lock for twice as long with each failure too many."""
    quiet = max(
        moment - row.last_at, timedelta()
    )  # another machine's clock may be ahead
    forgotten, rest = divmod(quiet, rule.forgotten_every)
    row.count = max(0, row.count - forgotten) + 1
    row.last_at = moment if row.count == 1 else moment - rest
    row.locked_until = None
    if row.count >= rule.free:
        row.locked_until = moment + timedelta(seconds=_lock_seconds(row, rule))


def _locked_for(row: LoginFailures, rule: Rule, moment: datetime) -> float:
    """Return the seconds until the lock ends; 0 if it is over, or was made before the clock was set back."""
    ahead = (row.locked_until - moment).total_seconds() if row.locked_until else 0.0
    return ahead if 0 < ahead <= _lock_seconds(row, rule) + SKEW_SECONDS else 0.0


def _lock_seconds(row: LoginFailures, rule: Rule) -> int:
    doublings = min(max(0, row.count - rule.free), 20)
    seconds: int = min(FIRST_LOCK_SECONDS * 2**doublings, LONGEST_LOCK_SECONDS)
    return seconds


def _take_back(sources: dict[str, Rule]) -> None:
    """Undo the count of a right login. Only the name is cleared: who has one account may be guessing others."""
    by_address, by_name = sources
    LoginFailures.objects.filter(source=by_address, count__gt=0).update(
        count=F("count") - 1, locked_until=None
    )
    LoginFailures.objects.filter(source=by_name).delete()


def _folded(username: str) -> str:
    return unicodedata.normalize("NFKC", username).casefold()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
