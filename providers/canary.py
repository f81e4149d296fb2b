"""Whether remote models still give the vectors that they gave (CONTRACT section 14), and members of pools the pool's.

Three fixed texts are embedded and compared with what the same model answered before, at this address or, where the
address is new, at the one checked last. All processes share one row for each provider, model and address. A check is
claimed by one conditional UPDATE and written by another, so that of several processes one asks the upstream. A member
of a pool has a row of its own as that, whose reference is that of the pool's model.
"""

import contextlib
import functools
import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import numpy as np
import structlog
from django.apps import apps
from django.db import transaction
from django.db.models import F, Max, Q, QuerySet
from django.utils import timezone

from providers.base import ModelSpec, Provider, Vectors
from providers.breaker import guarded
from providers.exceptions import ProviderError, ProviderMalformed
from providers.models import RemoteSpace, Revision
from providers.operator_settings import operator_settings
from providers.state.process import owned

# Every kept vector is of these: with another text every model would seem to have drifted.
TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "How do I change the password of my account?",
    "Der Zug nach Zürich fährt morgen um 7:45 Uhr.",
)
LEAST_COSINE = 0.999
CHECK_EVERY = timedelta(days=1)
# A model that drifted may be put back at any time.
CHECK_DRIFTED_EVERY = timedelta(minutes=1)
# A member answers under another's name, and nobody sees that another model was started behind its address.
CHECK_MEMBERS_EVERY = timedelta(minutes=10)
# Older than any check may be; which address was checked last stays known.
LONG_AGO = 365 * CHECK_EVERY
TIMEOUT_SECONDS = 30.0
# Longer than a check may take; that of a process that died is forgotten then.
LEASE = timedelta(seconds=90)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(minutes=10)
# Some servers answer to any model name that a user invents; only a job adds rows beyond these.
MAX_ROWS_OF_A_PROVIDER = 500
DRIFTED, OK = RemoteSpace.State.DRIFTED, RemoteSpace.State.OK

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How one space stands. `changed`: this very check found that it drifted, or that it is itself again.

    `known`: it was checked in time. `fresh_seconds`: how long there is nothing to do.
    """

    known: bool
    drifted: bool
    revision: int
    fresh_seconds: float
    changed: bool = False


class Canary:
    """Check one model at a time. `started_at`: when this server started; what was checked before is checked again."""

    clock = staticmethod(timezone.now)

    def __init__(self, *, started_at: datetime) -> None:
        self._started_at = started_at

    def check(
        self,
        provider: Provider,
        model: ModelSpec,
        *,
        pool: Provider | None = None,
        since: datetime | None = None,
        urgent: bool = False,
    ) -> Verdict | None:
        """Return how the space of a remote model stands, asking the upstream if the last check is too old.

                `pool`: compare with what that provider's model gave, and `model` is that one; `drifted` then means that
        `provider` may not serve in its place. `since`: a check that began before that is too old; None: as it is due.
        `urgent`: do not wait for the pause after a failed check. Returns None while another process checks, or the
        pool has not been checked itself. Raises ProviderError and DatabaseError.
        """
        now = self.clock()
        reference = _reference_of(pool, model) if pool else None
        if pool and reference is None:
            return None
        row = _row(provider, model, pool=pool.name if pool else "", urgent=urgent)
        if row is None:
            return None
        accepted = pool is not None and row.revision != model.space_revision
        if not accepted and not self._is_due(row, now, since):
            return _verdict(row, now)
        if not urgent and row.retry_at and row.retry_at > now:
            return _verdict(row, now, known=False, due_at=row.retry_at)
        lease = now + LEASE
        if not _claim(row, now=now, lease=lease):
            return None
        try:
            named = operator_settings().as_named(provider.name, model)
            seen = _answer(provider, named if pool else model)
        except ProviderError as error:
            _note_failure(row, error, now=now, lease=lease)
            raise
        except BaseException:
            _held(row, lease).update(lease_until=None)
            raise
        return self._settled(row.pk, seen, reference, now=now, lease=lease)

    def _is_due(self, row: RemoteSpace, now: datetime, since: datetime | None) -> bool:
        if row.checked_at is None:
            return True
        if since is not None:
            return row.checked_at < since
        old = now - row.checked_at >= _interval(row)
        return old or row.checked_at < self._started_at

    def _settled(
        self,
        pk: int,
        seen: Vectors,
        pooled: RemoteSpace | None,
        *,
        now: datetime,
        lease: datetime,
    ) -> Verdict | None:
        """Compare, and write the outcome. Returns None if the row was accepted, or leased to another, meanwhile."""
        row = RemoteSpace.objects.filter(pk=pk).first()
        if row is None:  # it left its pool
            return None
        was, of, is_first = row.state, row.revision, row.dimensions is None
        elsewhere = _checked_elsewhere(row) if is_first and not row.pool else pooled
        kept = elsewhere or row
        reference = _vectors(kept.reference) if kept.dimensions else seen
        cosine = least_cosine(reference, seen)
        drifted = cosine < LEAST_COSINE
        row.state, row.checked_at = DRIFTED if drifted else OK, now
        row.revision = kept.revision
        if not _held(row, lease).update(
            state=row.state,
            cosine=cosine,
            checked_at=now,
            revision=row.revision,
            dimensions=reference.shape[1],
            reference=_bytes(reference),
            seen=_bytes(seen) if drifted else b"",
            lease_until=None,
            retry_at=None,
            failures=0,
            last_error="",
        ):
            return None
        changed = was != row.state
        awaited = elsewhere or row.provider in operator_settings().pools
        if changed or of != row.revision or (is_first and awaited):
            Revision.bump()
        if changed or (is_first and row.pool):
            _report(row, cosine)
        return _verdict(row, now, changed=changed)


@owned
def canary() -> Canary:
    """Return the process-wide canary."""
    return Canary(started_at=apps.get_app_config("providers").started_at)  # type: ignore[attr-defined]


def accept(pk: int, *, by: str) -> bool:
    """Take what a drifted model gives now for its vectors, as a new revision; return whether it was drifted.

    Revisions are counted over all models, so that two spaces that once were one never meet again under one number. A
    model that gives the same at another address has its revision from there.
    """
    with transaction.atomic():
        Revision.bump()  # also holds back whoever accepts at the same time
        row = RemoteSpace.objects.filter(pk=pk, state=DRIFTED, pool="").first()
        if row is None:
            return False
        seen = _vectors(row.seen)
        revision = _revision_elsewhere(row, seen)
        if revision is None:
            revision = 1 + RemoteSpace.objects.aggregate(n=Max("revision"))["n"]
        # A check that ends now has seen something else, or keeps its lease in vain.
        accepted = RemoteSpace.objects.filter(
            pk=pk, state=DRIFTED, checked_at=row.checked_at
        ).update(
            state=OK,
            cosine=None,
            revision=revision,
            dimensions=seen.shape[1],
            reference=row.seen,
            seen=b"",
            lease_until=None,
            accepted_by=by[:150],
            accepted_at=timezone.now(),
        )
    return bool(accepted)


def check_again(provider: str) -> None:
    """Have all spaces of a provider checked at their next use: something else may answer under its name.

    Until then it is admitted to no pool.
    """
    RemoteSpace.objects.filter(provider=provider).exclude(pool="").delete()
    rows = RemoteSpace.objects.filter(provider=provider, checked_at__isnull=False)
    rows.update(checked_at=F("checked_at") - LONG_AGO)


def leave_pools(provider: str) -> None:
    """Forget to which pools a provider was admitted, and who was to its own."""
    as_member = ~Q(pool="") & Q(provider=provider)
    RemoteSpace.objects.filter(as_member | Q(pool=provider)).delete()
    Revision.bump()


def width(stored: bytes | memoryview) -> int:
    """Return the dimensions of stored vectors; 0 of none."""
    return len(bytes(stored)) // 4 // len(TEXTS)


def least_cosine(kept: Vectors, seen: Vectors) -> float:
    """Return the least cosine of two float32 (n, d), row by row; 0 if they are not of one width."""
    if kept.shape != seen.shape:
        return 0.0
    if np.array_equal(kept, seen):
        return 1.0
    one, other = kept.astype(np.float64), seen.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = np.vecdot(one, other) / np.maximum(lengths, np.finfo(np.float64).tiny)
    return float(cosines.min())


@functools.lru_cache(maxsize=256)
def address_key(address: str) -> str:
    """Return what an address is known by: a hash of it without user, password and query."""
    bare = address.partition("?")[0]
    with contextlib.suppress(ValueError):  # no URL; the provider says so itself
        parts = urlsplit(address)
        bare = f"{parts.scheme}://{_host(address)}{parts.path}"
    return hashlib.sha256(bare.encode()).hexdigest()[:32]


def _host(address: str) -> str:
    return urlsplit(address).netloc.rpartition("@")[2].lower()


def _row(
    provider: Provider, model: ModelSpec, *, pool: str, urgent: bool
) -> RemoteSpace | None:
    """Return the space's row without its vectors, made if need be; None if there are too many."""
    address = provider.address()
    place = {
        "provider": provider.name,
        "model": model.name,
        "address": address_key(address),
        "pool": pool,
    }
    rows = RemoteSpace.objects.defer("reference", "seen").filter(**place)
    if row := rows.first():
        return row
    of_provider = RemoteSpace.objects.filter(provider=provider.name)
    if not urgent and of_provider.count() >= MAX_ROWS_OF_A_PROVIDER:
        return None
    new = RemoteSpace(**place, host=_host(address)[:255])
    RemoteSpace.objects.bulk_create([new], ignore_conflicts=True)
    return rows.first()


def _interval(row: RemoteSpace) -> timedelta:
    if row.state == DRIFTED:
        return CHECK_DRIFTED_EVERY
    return CHECK_MEMBERS_EVERY if row.pool else CHECK_EVERY


def _verdict(
    row: RemoteSpace,
    now: datetime,
    *,
    known: bool = True,
    due_at: datetime | None = None,
    changed: bool = False,
) -> Verdict:
    due_at = due_at or (row.checked_at or now) + _interval(row)
    return Verdict(
        known=known,
        drifted=row.state == DRIFTED,
        revision=row.revision,
        fresh_seconds=max(0.0, (due_at - now).total_seconds()),
        changed=changed,
    )


def _claim(row: RemoteSpace, *, now: datetime, lease: datetime) -> bool:
    """Take the row for a check, unless another has it or has checked it meanwhile."""
    free = Q(lease_until=None) | Q(lease_until__lte=now)
    free |= Q(lease_until__gt=now + 2 * LEASE)  # from before the clock was set back
    unchecked = Q(pk=row.pk, checked_at=row.checked_at)
    return bool(RemoteSpace.objects.filter(free & unchecked).update(lease_until=lease))


def _held(row: RemoteSpace, lease: datetime) -> QuerySet[RemoteSpace]:
    return RemoteSpace.objects.filter(pk=row.pk, lease_until=lease)


def _answer(provider: Provider, model: ModelSpec) -> Vectors:
    """Ask for the texts' vectors, float32 (3, d)."""
    with guarded(provider.name):
        vectors = provider.embed(
            # A prompt that operators set makes another space, but no other model.
            replace(model, query_prompt="", document_prompt=""),
            TEXTS,
            dimensions=None,
            input_type="document",
            timeout_seconds=TIMEOUT_SECONDS,
        ).vectors
    sound = vectors.ndim == 2 and len(vectors) == len(TEXTS) and vectors.shape[1] > 0
    if not sound or not np.isfinite(vectors).all():
        raise ProviderMalformed(f"{provider.name} did not answer with a vector a text.")
    return np.asarray(vectors, dtype=np.float32)


def _note_failure(
    row: RemoteSpace, error: ProviderError, *, now: datetime, lease: datetime
) -> None:
    """Try again later, and later each time. What cannot be asked has not drifted."""
    pause = min(FIRST_PAUSE * 2 ** min(row.failures, 10), LONGEST_PAUSE)
    _held(row, lease).update(
        lease_until=None,
        retry_at=now + pause,
        failures=row.failures + 1,
        last_error=error.message[:300],
    )


def _checked_elsewhere(row: RemoteSpace) -> RemoteSpace | None:
    """Return the same model at the address that was checked last."""
    others = RemoteSpace.objects.filter(
        provider=row.provider, model=row.model, pool="", dimensions__isnull=False
    )
    return others.exclude(pk=row.pk).order_by("-checked_at").first()


def _reference_of(pool: Provider, model: ModelSpec) -> RemoteSpace | None:
    """Return the row of the pool's own provider: at its address, else where it was checked last; None if nowhere."""
    rows = RemoteSpace.objects.filter(
        provider=pool.name, model=model.name, pool="", dimensions__isnull=False
    )
    here = rows.filter(address=address_key(pool.address())).first()
    return here or rows.order_by("-checked_at").first()


def _revision_elsewhere(row: RemoteSpace, seen: Vectors) -> int | None:
    others = RemoteSpace.objects.filter(
        provider=row.provider, model=row.model, pool="", dimensions=seen.shape[1]
    )
    for other in others.exclude(pk=row.pk):
        if least_cosine(_vectors(other.reference), seen) >= LEAST_COSINE:
            return other.revision
    return None


def _report(row: RemoteSpace, cosine: float) -> None:
    facts = {
        "provider": row.provider,
        "model": row.model,
        "cosine": round(cosine, 6),
    }
    if row.pool:
        event = "pool_member_admitted" if row.state == OK else "pool_member_refused"
        log.warning(event, pool=row.pool, **facts)
    elif row.state == DRIFTED:
        log.error("remote_space_drifted", **facts)
    else:
        log.info("remote_space_restored", **facts)


def _vectors(stored: bytes | memoryview) -> Vectors:
    return np.frombuffer(stored, dtype="<f4").reshape(len(TEXTS), -1)


def _bytes(vectors: Vectors) -> bytes:
    return vectors.astype("<f4").tobytes()
