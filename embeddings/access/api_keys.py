"""API keys: made, found, revoked. A key is `sk-`, twelve public characters (its prefix), and a secret of 256 bits."""

import hashlib
import hmac
import math
import re
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

import structlog
from django.contrib.auth.models import User
from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from embeddings.access.caller_lookup import known_keys
from embeddings.access.row_memory import RowMemory
from embeddings.models import ApiKey
from embeddings.services.callers import CallerLimits
from embeddings.services.errors import InvalidRequest
from providers.state.process import owned
from providers.state.timed import Fresh

KEY_START = "sk-"
KEY_FORM = re.compile(r"(sk-[0-9a-f]{12})[A-Za-z0-9_-]{43}", re.ASCII)
MAX_ACTIVE_KEYS = 100  # of one user
MAX_PATTERNS = 100
MAX_PATTERN_LENGTH = 264  # as long as the allowlist's
USE_NOTED_EVERY_SECONDS = 60.0
MAX_KEYS_IN_USE = 10_000
KEYS_IN_USE_SECONDS = 10.0

timer = time.monotonic
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """What is asked of a key. Scopes are exact names or end in `*`; empty ones allow what the server allows."""

    name: str = ""
    expires_at: datetime | None = None
    allowed_providers: Sequence[str] = ()
    allowed_models: Sequence[str] = ()
    read_only_media: bool = False
    limits: CallerLimits = field(default_factory=CallerLimits)


def create_key(user: User, wanted: NewKey) -> tuple[ApiKey, str]:
    """Make a key and return it with its text, which is stored nowhere. Raises InvalidRequest, and ValidationError."""
    providers = checked_patterns("allowed_providers", wanted.allowed_providers)
    key = ApiKey(
        user=user,
        name=wanted.name,
        expires_at=wanted.expires_at,
        allowed_providers=[pattern.lower() for pattern in providers],
        allowed_models=checked_patterns("allowed_models", wanted.allowed_models),
        read_only_media=wanted.read_only_media,
        **asdict(wanted.limits),
    )
    text = issue(key)
    with transaction.atomic():
        if active_keys(user) >= MAX_ACTIVE_KEYS:
            raise InvalidRequest(
                f"The user has {MAX_ACTIVE_KEYS} keys already; revoke one first."
            )
        key.full_clean()
        key.save()
    return key, text


def issue(key: ApiKey) -> str:
    """Give an unsaved key its text, and return it."""
    prefix = KEY_START + secrets.token_hex(6)
    text = prefix + secrets.token_urlsafe(32)
    key.prefix, key.digest = prefix, digest_of(text)
    return text


def revoke_key(key: ApiKey) -> None:
    """End a key: here at once, in other processes within a second. A key that is revoked already keeps its time."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
    key.refresh_from_db(fields=["revoked_at"])
    keys_by_prefix().forget(key.prefix)


def find_key(text: str) -> ApiKey | None:
    """Return the key with this text, its user and the user's limits; None for anything else. Not to be changed.

    The row is found by its public prefix; the secret is compared by digest, in constant time.
    """
    prefix = public_part(text)
    if prefix is None:
        return None
    key = keys_by_prefix().find(prefix)
    if key is None or not hmac.compare_digest(key.digest, digest_of(text)):
        return None
    return key


def public_part(text: str) -> str | None:
    """Return the prefix of what looks like a key: it may be shown and logged."""
    form = KEY_FORM.fullmatch(text)
    return form[1] if form else None


@owned
def keys_by_prefix() -> RowMemory[ApiKey]:
    """Return the process-wide memory of keys."""
    return RowMemory(known_keys(), "prefix")


@owned
def keys_in_use() -> Fresh[frozenset[str]]:
    """Return the public parts of the keys that were used or made last, as any process knew them a moment ago."""
    return Fresh(_read_keys_in_use, seconds=KEYS_IN_USE_SECONDS, timer=lambda: timer())


def _read_keys_in_use() -> frozenset[str]:
    last = Coalesce("last_used_at", "created_at").desc()
    keys = ApiKey.objects.filter(revoked_at=None).order_by(last)
    return frozenset(keys.values_list("prefix", flat=True)[:MAX_KEYS_IN_USE])


def digest_of(text: str) -> str:
    """Return what is stored of a key. Plain SHA-256 will do: a random secret cannot be guessed from a list."""
    return hashlib.sha256(text.encode()).hexdigest()


def expiry(days: int | None) -> datetime | None:
    """Return the end of a key that lives `days` from now."""
    return None if days is None else timezone.now() + timedelta(days=days)


def active_keys(user: User) -> int:
    """Count the keys that the user could call with."""
    unexpired = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    return ApiKey.objects.filter(unexpired, user=user, revoked_at=None).count()


def checked_patterns(param: str, patterns: Sequence[str]) -> list[str]:
    """Return scopes, stripped. Raises InvalidRequest for what the allowlist would not take."""
    stripped = [pattern.strip() for pattern in patterns]
    if len(stripped) > MAX_PATTERNS:
        raise InvalidRequest(
            f"{param} must have at most {MAX_PATTERNS} entries.", param=param
        )
    for pattern in stripped:
        if not 0 < len(pattern) <= MAX_PATTERN_LENGTH or "*" in pattern[:-1]:
            raise InvalidRequest(
                f"{param} must hold exact names, or beginnings followed by one *.",
                param=param,
            )
    return stripped


class UseNotes:
    """Write down when a key was used: once a minute at most, and never at a request's cost if that fails."""

    timer = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rests_until: dict[int, float] = {}

    def note(self, key: ApiKey) -> None:
        if not self._is_due(key):
            return
        moment = timezone.now()
        cutoff = moment - timedelta(seconds=USE_NOTED_EVERY_SECONDS)
        unnoted = Q(last_used_at=None) | Q(last_used_at__lte=cutoff)
        try:
            ApiKey.objects.filter(unnoted, pk=key.pk).update(last_used_at=moment)
        except (DatabaseError, InterfaceError):
            log.warning("key_use_not_noted", key_id=key.pk, exc_info=True)

    def _is_due(self, key: ApiKey) -> bool:
        """Whether this use is the first in a minute; a try that fails counts, or it would slow every request."""
        now = self.timer()
        if now < self._rests_until.get(key.pk, 0.0):
            return False
        noted = key.last_used_at
        age = (timezone.now() - noted).total_seconds() if noted else math.inf
        is_due = not 0 <= age < USE_NOTED_EVERY_SECONDS
        with self._lock:
            if now < self._rests_until.get(key.pk, 0.0):
                return False
            self._rests_until[key.pk] = (
                now + USE_NOTED_EVERY_SECONDS - (0 if is_due else age)
            )
        return is_due


@owned
def use_notes() -> UseNotes:
    """Return the process-wide notes."""
    return UseNotes()
