"""The circuit breakers of all providers, seen and reset."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from django.db import DatabaseError, InterfaceError

from embeddings.services.errors import ProviderNotFound
from providers import breaker
from providers.models import Breaker
from providers.registry import registry
from providers.state.database import LOOKUP_SECONDS, waits

BreakerWord = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerState:
    """One provider's breaker; a provider that never failed has a closed one."""

    provider: str
    state: BreakerWord = "closed"
    failure_count: int = 0
    success_count: int = 0
    opened_at: datetime | None = None
    retry_at: datetime | None = None
    last_error: str | None = None


def breaker_states() -> Iterator[BreakerState]:
    """Yield the breaker of every provider, used or not."""
    rows = {row.provider: row for row in Breaker.objects.all()}
    for name in registry().names():
        yield _state(name, rows.get(name))


def known_breaker_states() -> list[BreakerState]:
    """Return all breakers, or none while the database is away: health must answer then, too."""
    try:
        with waits.at_most(LOOKUP_SECONDS):
            return list(breaker_states())
    except (DatabaseError, InterfaceError):
        return []


def reset_breaker(provider: str, *, by: str) -> tuple[BreakerState, BreakerState]:
    """Close a breaker in all processes at once; return it as it was and as it is. `by`: a username, for its story.

    Raises ProviderNotFound.
    """
    name = provider.strip().lower()
    if name not in registry().names():
        raise ProviderNotFound(
            f"Unknown provider: {provider}", param="provider", code="not_found"
        )
    before = _state(name, Breaker.objects.filter(provider=name).first())
    breaker.reset(name, by=by)
    return before, BreakerState(provider=name)


def _state(name: str, row: Breaker | None) -> BreakerState:
    if row is None:
        return BreakerState(provider=name)
    return BreakerState(
        provider=name,
        state=cast(BreakerWord, row.state),
        failure_count=row.failure_count,
        success_count=row.success_count,
        opened_at=row.opened_at,
        retry_at=row.retry_at,
        last_error=row.last_error or None,
    )
