"""What operators set, as each process sees it: read from the database when it changed, at most every two seconds.

While the database is away, what was read last holds. Until the allowlists were seeded, those of the environment hold.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from providers.base import ModelSpec
from providers.models import (
    AllowlistEntry,
    ModelEntry,
    ProviderSetting,
    RemoteSpace,
    Revision,
    read_sizes,
)
from providers.patterns import allows_model, allows_provider
from providers.state.process import owned
from providers.state.timed import Fresh, Timer

REFRESH_SECONDS = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """What a provider is built of: its plug-in, and what operators set; None means: as the environment says."""

    kind: str
    wire: str | None = None
    base_url: str | None = None
    timeout_seconds: float | None = None
    batch_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRow:
    """One provider, whether it may be used, in whose pool it is, and what it calls the models of that."""

    enabled: bool
    upstream: Upstream
    pool: str = ""
    pool_models: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """An operator's entry of one model; a prompt that is None is the model's own."""

    spec: ModelSpec
    enabled: bool
    default: bool
    query_prompt: str | None = None
    document_prompt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceRow:
    """How a remote model's space stands: the revision accepted last, and whether it gives other vectors now."""

    revision: int
    drifted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """All of it at one revision. Empty allowlists allow everything."""

    revision: int = -1
    providers: Mapping[str, ProviderRow] = field(default_factory=dict)
    models: Mapping[tuple[str, str], ModelRow] = field(default_factory=dict)
    allowed_providers: tuple[str, ...] = ()
    allowed_models: tuple[str, ...] = ()
    # by provider, model and address key; by provider, model and "" as it is where it was checked last
    spaces: Mapping[tuple[str, str, str], SpaceRow] = field(default_factory=dict)
    # by the provider that is the pool: the names of its other members
    pools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # by pool, member, model and the member's address key: whether it gives the pool's vectors, of which revision
    admissions: Mapping[tuple[str, str, str, str], SpaceRow] = field(
        default_factory=dict
    )

    def allows_provider(self, provider: str) -> bool:
        row = self.providers.get(provider)
        if row and not row.enabled:
            return False
        return allows_provider(self.allowed_providers, provider)

    def as_named(self, member: str, model: ModelSpec) -> ModelSpec:
        """Return a pool's model under the name that one of its members has for it."""
        row = self.providers.get(member)
        name = row.pool_models.get(model.name) if row and row.pool else None
        return replace(model, name=name) if name else model

    def allows_model(self, provider: str, model: str) -> bool:
        row = self.models.get((provider, model))
        if row and not row.enabled:
            return False
        return allows_model(self.allowed_models, provider, model)


class OperatorSettingsReader:
    """Keep the newest settings at hand; one thread at a time looks whether they changed."""

    def __init__(self, *, timer: Timer = time.monotonic) -> None:
        self._settings = _unseeded()
        self.current = Fresh(self._look, seconds=REFRESH_SECONDS, timer=timer).get

    def _look(self) -> OperatorSettings:
        try:
            row = Revision.objects.filter(pk=1, allowlists_seeded=True).first()
            if row is None:
                self._settings = _unseeded()
            elif row.number != self._settings.revision:
                self._settings = _read(row.number)
        except (DatabaseError, InterfaceError) as error:
            log.warning("operator_settings_unavailable", reason=str(error).strip())
        return self._settings


@owned
def reader() -> OperatorSettingsReader:
    """Return the process-wide reader."""
    return OperatorSettingsReader()


def operator_settings() -> OperatorSettings:
    """Return what operators set, at most two seconds old."""
    return reader().current()


def _unseeded() -> OperatorSettings:
    return OperatorSettings(
        allowed_providers=tuple(
            name.lower() for name in settings.ALLOWED_EMBEDDING_PROVIDERS
        ),
        allowed_models=tuple(settings.ALLOWED_EMBEDDING_MODELS),
    )


def _read(revision: int) -> OperatorSettings:
    patterns = AllowlistEntry.objects.values_list("kind", "pattern")
    rows = list(ProviderSetting.objects.all())
    spaces, admissions = _spaces()
    return OperatorSettings(
        revision=revision,
        providers={
            row.name: ProviderRow(
                enabled=row.enabled,
                pool=row.pool,
                pool_models=row.pool_models,
                upstream=Upstream(
                    kind=row.kind,
                    wire=row.wire or None,
                    base_url=row.base_url or None,
                    timeout_seconds=row.timeout_seconds,
                    batch_size=row.batch_size,
                ),
            )
            for row in rows
        },
        models={
            (row.provider, row.name): _model_row(row)
            for row in ModelEntry.objects.all()
        },
        allowed_providers=tuple(
            p.lower() for kind, p in patterns if kind == AllowlistEntry.Kind.PROVIDER
        ),
        allowed_models=tuple(
            p for kind, p in patterns if kind == AllowlistEntry.Kind.MODEL
        ),
        spaces=spaces,
        pools=_pools(rows),
        admissions=admissions,
    )


def _pools(rows: Iterable[ProviderSetting]) -> dict[str, tuple[str, ...]]:
    pools: dict[str, tuple[str, ...]] = {}
    for row in rows:
        if row.pool:
            pools[row.pool] = (*pools.get(row.pool, ()), row.name)
    return pools


def _spaces() -> tuple[
    dict[tuple[str, str, str], SpaceRow], dict[tuple[str, str, str, str], SpaceRow]
]:
    """Return the spaces, and what members of pools were found to give."""
    spaces, admissions = {}, {}
    rows = RemoteSpace.objects.filter(dimensions__isnull=False).order_by("checked_at")
    for pool, provider, model, address, revision, state in rows.values_list(
        "pool", "provider", "model", "address", "revision", "state"
    ):
        drifted = settings.EMBEDDINGS_CANARY and state == RemoteSpace.State.DRIFTED
        found = SpaceRow(revision=revision, drifted=drifted)
        if pool:
            admissions[pool, provider, model, address] = found
            continue
        spaces[provider, model, address] = found
        spaces[provider, model, ""] = SpaceRow(revision=revision, drifted=False)
    return spaces, admissions


def _model_row(row: ModelEntry) -> ModelRow:
    price = row.price_per_million_tokens
    spec = ModelSpec(
        name=row.name,
        dimensions=row.dimensions,
        max_tokens=row.max_tokens,
        vector_space=row.vector_space,
        native_dimensions=read_sizes(row.native_dimensions)
        if row.native_dimensions
        else (),
        retired=row.retired,
        price_per_million_tokens=None if price is None else float(price),
    )
    return ModelRow(
        spec=spec,
        enabled=row.enabled,
        default=row.is_default,
        query_prompt=row.query_prompt,
        document_prompt=row.document_prompt,
    )
