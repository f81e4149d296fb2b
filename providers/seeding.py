"""Fill the operator's tables with what is installed: at each start, adding what is new and never changing a row."""

from collections.abc import Sequence
from decimal import Decimal

from django.db import transaction

from providers.base import ModelSpec
from providers.models import (
    AllowlistEntry,
    Breaker,
    ModelEntry,
    ProviderSetting,
    Revision,
    written_sizes,
)
from providers.registry import registry


def seed_registry(
    *, allowed_providers: Sequence[str], allowed_models: Sequence[str]
) -> None:
    """Add rows for providers and models that have none; the allowlists only once, at the first start."""
    with transaction.atomic():
        revision, _ = Revision.objects.get_or_create(pk=1)
        before = _rows()
        ProviderSetting.objects.bulk_create(
            [ProviderSetting(name=name, kind=name) for name in registry().installed()],
            ignore_conflicts=True,
        )
        Breaker.objects.bulk_create(
            [Breaker(provider=name) for name in registry().names()],
            ignore_conflicts=True,
        )
        # Not those of added upstreams: which space theirs are of follows their address, until an operator says it.
        entries = [
            entry_of(p.name, spec)
            for p in registry().all()
            if registry().kind(p.name) == p.name
            for spec in p.models()
        ]
        ModelEntry.objects.bulk_create(entries, ignore_conflicts=True)
        if not revision.allowlists_seeded:
            _seed_allowlist(
                AllowlistEntry.Kind.PROVIDER,
                [name.lower() for name in allowed_providers],
            )
            _seed_allowlist(AllowlistEntry.Kind.MODEL, allowed_models)
            Revision.objects.filter(pk=1).update(allowlists_seeded=True)
        if _rows() != before:
            Revision.bump()


def _rows() -> int:
    return (
        ProviderSetting.objects.count()
        + ModelEntry.objects.count()
        + AllowlistEntry.objects.count()
    )


def _seed_allowlist(kind: AllowlistEntry.Kind, patterns: Sequence[str]) -> None:
    rows = [AllowlistEntry(kind=kind, pattern=pattern) for pattern in patterns]
    AllowlistEntry.objects.bulk_create(rows, ignore_conflicts=True)


def entry_of(provider: str, spec: ModelSpec) -> ModelEntry:
    """Return a row, not stored, that says of a model what its provider says."""
    price = spec.price_per_million_tokens
    return ModelEntry(
        provider=provider,
        name=spec.name,
        retired=spec.retired,
        dimensions=spec.dimensions,
        native_dimensions=written_sizes(spec.native_dimensions),
        max_tokens=spec.max_tokens,
        vector_space=spec.vector_space,
        price_per_million_tokens=None if price is None else Decimal(str(price)),
    )
