"""Whether this server can do its work now: embeddings, proven by making one, and the storing of documents."""

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from embeddings.services.errors import ServiceError
from embeddings.services.pools import pools
from embeddings.services.routing import (
    check_set_up,
    fallback_targets,
    is_allowed,
    primary_target,
)
from embeddings.services.types import EmbeddingRequest, Target
from providers import breaker
from providers.base import Provider
from providers.exceptions import (
    BreakerOpen,
    ProviderError,
    ProviderMisconfigured,
    ProviderUnavailable,
)
from providers.operator_settings import operator_settings
from providers.registry import registry
from providers.state.database import KEPT_SECONDS, LOOKUP_SECONDS, waits
from providers.state.process import owned
from providers.state.server_folder import server_folder
from providers.state.timed import Fresh

FRESH_SECONDS = (
    5.0  # a proof this young is not repeated, so that probes cost nothing under load
)
PROBE_TIMEOUT_SECONDS = 10.0
PROBE_TEXTS = ("health",)
# A file of the server's folder: its time is that of the database's last answer to any of the processes.
ANSWERED = "database-answered"
# What must fit on the disk.
PROBE_BYTES = 2**16
ABSENT = (
    "The database does not answer: keys that were used in the last minute go on,"
    " documents, jobs and the console wait for it."
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`problem`: why a request for embeddings would fail now, or None. `degraded`: what else does not work.

    All are public sentences.
    """

    problem: str | None = None
    degraded: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        return self.problem is None


class HealthProbe:
    """Find out how things stand, and remember it briefly (`check`)."""

    timer = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._database_answered_at: float | None = None
        self._fresh = Fresh(
            self._probe, seconds=FRESH_SECONDS, timer=lambda: self.timer()
        )
        self.check = self._fresh.get

    def _probe(self) -> Health:
        with waits.at_most(LOOKUP_SECONDS):
            absent, read_only = self._database()
            problem, by_fallback = embedding_problem()
            if absent and self._absent_for_long():
                problem, absent = "The database does not answer.", None
            degraded = (by_fallback, absent, read_only, disk_problem())
            return Health(
                problem=problem, degraded=tuple(reason for reason in degraded if reason)
            )

    def _database(self) -> tuple[str | None, str | None]:
        """Return what is wrong with the database: that it does not answer, that it takes no writes."""
        try:
            read_only = _database_is_read_only()
        except (DatabaseError, InterfaceError) as error:
            log.warning("health_database_unavailable", reason=type(error).__name__)
            return ABSENT, None
        self._note_answer()
        if not read_only:
            return None, None
        return (
            None,
            "The database is read-only: documents, jobs and usage are not stored.",
        )

    def _note_answer(self) -> None:
        """Note that the database answered, also for this server's other processes: the next probe may be theirs."""
        self._database_answered_at = self.timer()
        if folder := server_folder():
            with contextlib.suppress(OSError):
                (folder / ANSWERED).touch()

    def _absent_for_long(self) -> bool:
        answered_at = self._database_answered_at
        if answered_at is not None and self.timer() - answered_at <= KEPT_SECONDS:
            return False
        folder = server_folder()
        if folder is None:
            return True
        try:
            noted = (folder / ANSWERED).stat().st_mtime
        except OSError:
            return True
        return time.time() - noted > KEPT_SECONDS


def embedding_problem() -> tuple[str | None, str | None]:
    """Return why a request of one word would fail now, None if it would be answered; then, why only by a fallback.

    It goes to the default model or what may serve in its place; where nothing of that is set up, to the first model
    that is allowed and set up. Local models are asked; calls to remote ones cost money, so their breakers are.
    """
    lacking: dict[str, str] = {}
    for chain in (_default_chain(), _all_allowed()):
        failed: ProviderError | None = None
        for target in chain:
            try:
                _try(target)
                return None, _by_fallback(target, failed)
            except ProviderMisconfigured as error:
                lacking.setdefault(target.provider.name, error.message.rstrip("."))
            except ProviderError as error:
                failed = failed or error
        if failed:
            return failed.message, None
    reasons = "; ".join(f"{name}: {reason}" for name, reason in lacking.items())
    return f"Nothing allowed is set up{f' ({reasons})' if reasons else ''}.", None


def _by_fallback(target: Target, failed: ProviderError | None) -> str | None:
    return f"{target.label} answers by fallback: {failed.message}" if failed else None


def warm_up() -> None:
    """Have the first local model of the default chain in memory before it is asked for."""
    for target in _default_chain():
        if target.provider.local:
            try:
                _try(target)
            except ProviderError as error:
                log.warning("warm_up_failed", model=target.label, reason=error.message)
            return


def _default_chain() -> Iterator[Target]:
    """Yield what may serve a request that names no model."""
    try:
        default = primary_target(model=None, provider=None)
    except ServiceError:
        return  # not allowed, or no longer known
    yield default
    yield from fallback_targets(EmbeddingRequest(inputs=PROBE_TEXTS), default)


def _all_allowed() -> Iterator[Target]:
    """Yield whatever may be used, in the order of the providers."""
    for provider in registry().all():
        for name in _names(provider):
            spec = registry().resolve(provider, name)
            target = Target(provider=provider, model=spec) if spec else None
            if target and is_allowed(target):
                yield target


def _names(provider: Provider) -> list[str]:
    """Return the models that a provider lists; of one that passes names on, those of the allowlist, or any."""
    if listed := [spec.name for spec in registry().models(provider)]:
        return listed
    allowed = operator_settings().allowed_models
    patterns = [name.removeprefix(f"{provider.name}:") for name in allowed]
    return [pattern.rstrip("*") or "any" for pattern in patterns or ["any"]]


def _try(target: Target) -> None:
    """Raise the ProviderError with which a request to `target` would fail: ProviderMisconfigured if it is not set up.

    A local model whose files are here and refused is set up, and does not work.
    """
    check_set_up(target)
    provider = target.provider
    retry_at = breaker.open_until(provider.name)
    if retry_at is not None and not pools().serves(provider, target.model):
        raise BreakerOpen(
            f"The circuit breaker of {provider.name} is open until {retry_at:%H:%M:%S} UTC."
        )
    if not provider.local:
        return
    try:
        provider.embed(
            target.model,
            list(PROBE_TEXTS),
            dimensions=None,
            input_type="document",
            timeout_seconds=PROBE_TIMEOUT_SECONDS,
        )
    except ProviderMisconfigured as error:
        if provider.downloaded(target.model):
            raise ProviderUnavailable(error.message) from error
        raise
    if not provider.healthy():
        raise ProviderUnavailable("A run of the local engine hangs; it is replaced.")


def _database_is_read_only() -> bool:
    """Raises DatabaseError or InterfaceError where the database does not answer."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM django_migrations LIMIT 1")
        if connection.vendor == "postgresql":
            cursor.execute("SHOW transaction_read_only")  # also on in a standby
            return bool(cursor.fetchone() == ("on",))
    path = Path(connection.settings_dict["NAME"])
    return path.exists() and not (
        os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    )


def disk_problem() -> str | None:
    """Return why files cannot be stored, None if they can."""
    try:
        with tempfile.TemporaryFile(dir=settings.DATA_DIR) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno == errno.ENOSPC:
            reason = "the disk is full"
        return f"DATA_DIR cannot be written to ({reason}): documents, jobs and usage may not be stored."
    return None


@owned
def health_probe() -> HealthProbe:
    """Return the process-wide probe."""
    return HealthProbe()
