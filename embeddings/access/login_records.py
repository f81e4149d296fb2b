"""Logins, failed ones, locks and log-outs in the audit log; of failures few, or guessing would fill it."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_out
from django.db.models import Q
from django.utils import timezone

from embeddings.models import AuditEntry
from embeddings.services.audit import record

LOG_IN, LOG_OUT, FAIL, LOCK = "log in", "log out", "fail to log in", "lock"
ONE_A_SOURCE = timedelta(minutes=1)
MOST_FAILURES_AN_HOUR = 200
NOBODY = "somebody"

Source = AuditEntry.Source


def note_login(source: Source, username: str, address: str) -> None:
    record(source=source, actor=username, action=LOG_IN, target=f"from {address}")


def note_failure(
    source: Source, username: str, address: str, locks: dict[str, int]
) -> None:
    """Write down a failure, the first of its address in a minute; and each lock that it led to, by what is locked.

    The name is that of a user, never what was typed: people type passwords into the wrong field.
    """
    if _too_many():
        return
    user = User.objects.filter(username=username).first()
    who = f"as {user.get_username()}" if user else "under an unknown name"
    target = f"{who} from {address}"
    if locks or not _noted_lately(address):
        record(source=source, actor=NOBODY, action=FAIL, target=target)
    for kind, seconds in locks.items():
        locked = address if kind == "address" else f"logins {target}"
        record(
            source=source,
            actor="server",
            action=LOCK,
            target=f"{locked} for {seconds} seconds",
        )


def _too_many() -> bool:
    since = timezone.now() - timedelta(hours=1)
    lately = AuditEntry.objects.filter(at__gt=since, action__in=(FAIL, LOCK))
    return lately[:MOST_FAILURES_AN_HOUR].count() >= MOST_FAILURES_AN_HOUR


def _noted_lately(address: str) -> bool:
    since = timezone.now() - ONE_A_SOURCE
    of_address = Q(at__gt=since, action=FAIL, target__endswith=f" from {address}")
    return AuditEntry.objects.filter(of_address).exists()


def _note_logout(*, user: Any, **_: Any) -> None:
    if user is not None:
        record(
            source=Source.CONSOLE,
            actor=user.get_username(),
            action=LOG_OUT,
            target="of the console",
        )


def watch_logouts() -> None:
    user_logged_out.connect(_note_logout, dispatch_uid="audit_logout")
