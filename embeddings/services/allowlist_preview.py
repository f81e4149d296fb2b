"""What the allowlist lets through, now or with an entry that is not saved yet."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from embeddings.services.catalog import default_target, list_models
from embeddings.services.types import Target
from providers.models import AllowlistEntry
from providers.operator_settings import OperatorSettings, operator_settings
from providers.patterns import allows_model, allows_provider
from providers.registry import registry

PROVIDER, MODEL = AllowlistEntry.Kind.PROVIDER, AllowlistEntry.Kind.MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A kind and a pattern, as the form has them."""

    kind: str
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """`allowed` of `total` known models are let through, `by_entry` of them by the entry. `unlimited`: no entry at all.

    `warnings`: sentences on what an operator hardly wants.
    """

    total: int
    allowed: Sequence[str]
    by_entry: Sequence[str]
    unlimited: bool
    warnings: Sequence[str]


def preview(entry: Entry | None = None, *, replaces: int | None = None) -> Preview:
    """Return what the allowlist would let through with `entry`, which `replaces` the stored one of that key.

    Models that a provider passes on without listing them are not among those counted.
    """
    entries = [
        Entry(kind=row.kind, pattern=row.pattern)
        for row in AllowlistEntry.objects.all()
        if row.pk != replaces
    ]
    entry = entry if entry and entry.pattern.strip() else None
    if entry:
        entry = replace(entry, pattern=entry.pattern.strip())
        entries.append(entry)
    changed = _with(entries)
    targets = [one.target for one in list_models()]
    allowed = [one for one in targets if _lets_through(changed, one)]
    matching = [one for one in targets if entry and _matches(entry, one)]
    warnings = _of_entry(entry, matching) if entry else []
    return Preview(
        total=len(targets),
        allowed=[_name(one) for one in allowed],
        by_entry=[_name(one) for one in matching if one in allowed],
        unlimited=not entries,
        warnings=[*warnings, *_of_all(changed, allowed)],
    )


def _with(entries: Sequence[Entry]) -> OperatorSettings:
    return replace(
        operator_settings(),
        allowed_providers=tuple(
            one.pattern.lower() for one in entries if one.kind == PROVIDER
        ),
        allowed_models=tuple(one.pattern for one in entries if one.kind == MODEL),
    )


def _lets_through(operator: OperatorSettings, target: Target) -> bool:
    provider, model = target.provider.name, target.model.name
    return operator.allows_provider(provider) and operator.allows_model(provider, model)


def _matches(entry: Entry, target: Target) -> bool:
    provider, model = target.provider.name, target.model.name
    if entry.kind == PROVIDER:
        return allows_provider([entry.pattern.lower()], provider)
    return allows_model([entry.pattern], provider, model)


def _of_entry(entry: Entry, matching: Sequence[Target]) -> list[str]:
    """Say where an entry matches nothing, and what may have been meant."""
    if entry.kind == PROVIDER:
        if any(allows_provider([entry.pattern.lower()], n) for n in registry().names()):
            return []
        known = {name: name for name in registry().names()}
    elif matching:
        return []
    else:
        known = {}
        for one in list_models():
            provider, model = one.target.provider.name, one.target.model.name
            known |= {name.lower(): name for name in (model, f"{provider}:{model}")}
    close = get_close_matches(entry.pattern.lower().rstrip("*"), known, n=1, cutoff=0.6)
    hint = f" Did you mean {known[close[0]]}?" if close else ""
    return [f"No known {entry.kind} is like {entry.pattern}.{hint}"]


def _of_all(operator: OperatorSettings, allowed: Sequence[Target]) -> list[str]:
    """Say where requests without a model, or all of them, would fail."""
    warnings = []
    default = default_target()
    if default and not _lets_through(operator, default):
        warnings.append(
            f"The default model {default.label} is shut out: requests that name no model would be refused."
        )
    if not any(one.problem() is None for one in allowed):
        warnings.append(
            "Nothing that is let through is set up and ready: the server would report that it is not healthy."
        )
    return warnings


def _name(target: Target) -> str:
    return f"{target.provider.name}:{target.model.name}"
