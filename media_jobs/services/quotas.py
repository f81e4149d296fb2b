"""What one user may store and have queued, over all of its keys and tokens.

Whoever operates the server (the single user, staff, commands) has no quota unless the console gives its user one.
Looked up at each use and not reserved: requests at the same moment can exceed a quota by what they bring.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from django.db.models import Count, Sum
from django.db.models.functions import Coalesce

from embeddings.models import UserLimits
from embeddings.services.callers import Caller
from embeddings.services.errors import QueueFull, QuotaExceeded
from media_jobs.conf import conf
from media_jobs.models import LIVE, Job, MediaItem

# Said with a refused job: some will be done by then.
RETRY_AFTER_SECONDS = 30

QuotaName = Literal["documents", "stored_bytes", "queued_jobs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """Upper bounds for one user; None: no bound."""

    documents: int | None = None
    stored_bytes: int | None = None
    queued_jobs: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaUse:
    """One quota of a user, or none (`limit` None), and what of it is used."""

    used: int
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What one user has. `bytes`: of its documents' texts in UTF-8."""

    documents: int
    bytes: int


def quotas_of(caller: Caller) -> Quotas:
    """Return the caller's quotas: its user's own, else for all but staff the server's."""
    own = None
    if caller.user_id is not None:
        own = UserLimits.objects.filter(user_id=caller.user_id).first()
    usual = Quotas()
    if not caller.is_admin:
        usual = Quotas(
            documents=conf().max_documents or None,
            stored_bytes=conf().max_stored_bytes or None,
            queued_jobs=conf().max_queued_jobs or None,
        )
    if own is None:
        return usual
    return Quotas(
        documents=_first(own.max_documents, usual.documents),
        stored_bytes=_first(own.max_stored_bytes, usual.stored_bytes),
        queued_jobs=_first(own.max_queued_jobs, usual.queued_jobs),
    )


def stored_by(caller: Caller) -> Stored:
    """Return what the caller's user has stored."""
    sums = MediaItem.objects.filter(owner_id=caller.user_id).aggregate(
        documents=Count("pk"), bytes=Coalesce(Sum("text_bytes"), 0)
    )
    return Stored(documents=sums["documents"], bytes=sums["bytes"])


def queued_by(caller: Caller) -> int:
    """Return how many of the caller's user's jobs wait or run."""
    return Job.objects.filter(owner_id=caller.user_id, status__in=LIVE).count()


def quota_use(caller: Caller) -> Mapping[QuotaName, QuotaUse]:
    """Return the quotas of the caller's user, and what of each is used."""
    quotas, stored = quotas_of(caller), stored_by(caller)
    return {
        "documents": QuotaUse(used=stored.documents, limit=quotas.documents),
        "stored_bytes": QuotaUse(used=stored.bytes, limit=quotas.stored_bytes),
        "queued_jobs": QuotaUse(used=queued_by(caller), limit=quotas.queued_jobs),
    }


def check_store(caller: Caller, *, new_documents: int = 1, more_bytes: int = 1) -> None:
    """Raise QuotaExceeded where the caller may not store so much more. By default: anything at all."""
    quotas = quotas_of(caller)
    if quotas.documents is None and quotas.stored_bytes is None:
        return
    stored = stored_by(caller)
    if new_documents > 0 and _is_over(
        stored.documents + new_documents, quotas.documents
    ):
        raise QuotaExceeded(
            f"The quota of {quotas.documents} documents is used up ({stored.documents} stored);"
            " delete some, or ask an administrator for more."
        )
    if more_bytes > 0 and _is_over(stored.bytes + more_bytes, quotas.stored_bytes):
        raise QuotaExceeded(
            f"The quota of {quotas.stored_bytes} bytes of text has no place for {more_bytes} more"
            f" ({stored.bytes} stored); delete documents, or ask an administrator for more."
        )


def check_queue(caller: Caller, *, new_jobs: int) -> None:
    """Raise QueueFull where the caller has too many jobs waiting, those counted that were just made."""
    most = quotas_of(caller).queued_jobs
    if not new_jobs or most is None:
        return
    queued = queued_by(caller)
    if _is_over(queued, most):
        raise QueueFull(
            f"The quota of {most} queued jobs has no place for {new_jobs} more ({queued - new_jobs} wait or run);"
            " try again when some have ended, or cancel some.",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )


def _is_over(amount: int, quota: int | None) -> bool:
    return quota is not None and amount > quota


def _first(own: int | None, usual: int | None) -> int | None:
    return usual if own is None else own
