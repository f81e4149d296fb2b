"""Which providers and models exist: plug-ins as installed, as the operator changed them.

Plug-ins are the built-ins (`providers/plugins/`), then packages with an entry point in `embeddings.providers`.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import structlog
from django.conf import settings

from providers.base import ModelSpec, Provider
from providers.built_in import built_in
from providers.canary import address_key
from providers.operator_settings import (
    ModelRow,
    OperatorSettings,
    SpaceRow,
    operator_settings,
)
from providers.prompts import with_prompts
from providers.state.process import owned

ENTRY_POINT_GROUP = "embeddings.providers"
BUILT_IN = {one.name: one.place for one in built_in()}

# A model that was downloaded meanwhile is still found by `resolve`.
LISTING_SECONDS = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Listing:
    """One provider's models, by name and alias, and what they were derived from."""

    provider: Provider
    operator: OperatorSettings
    until: float
    models: tuple[ModelSpec, ...]
    by_name: Mapping[str, ModelSpec]


class Registry:
    """Providers by name, each built when it is first asked for, and again when the operator changed its address.

    A broken third-party plug-in is logged and left out.
    """

    timer = staticmethod(time.monotonic)

    def __init__(self, options: Mapping[str, Mapping[str, Any]]) -> None:
        self._options = options
        self._lock = threading.RLock()
        self._built: dict[str, tuple[Mapping[str, Any], Provider]] = {}
        self._listings: dict[str, _Listing] = {}
        self._plugins = {
            point.name.lower(): point for point in entry_points(group=ENTRY_POINT_GROUP)
        }
        for name in self._plugins.keys() & BUILT_IN.keys():
            log.error(
                "provider_plugin_skipped",
                provider=name,
                reason="the name belongs to a built-in provider",
            )
            del self._plugins[name]

    def names(self) -> tuple[str, ...]:
        """Return the names of all registered providers, built-ins first."""
        return (*BUILT_IN, *sorted(self._plugins))

    def get(self, name: str) -> Provider | None:
        """Return the provider of that name (lower case), or None."""
        changes = _operator_options(name)
        built = self._built.get(name)
        if built and built[0] == changes:
            return built[1]
        with self._lock:
            built = self._built.get(name)
            if built and built[0] == changes:
                return built[1]
            provider = self._build(name, {**self._options.get(name, {}), **changes})
            if provider is not None:
                self._built[name] = (changes, provider)
            return provider

    def all(self) -> tuple[Provider, ...]:
        """Return every provider that can be built."""
        return tuple(provider for name in self.names() if (provider := self.get(name)))

    def models(self, provider: Provider) -> tuple[ModelSpec, ...]:
        """Return what `provider` lists, as the operator changed it, then what the operator added."""
        return self._listing(provider).models

    def listed(self, provider: Provider, name: str) -> ModelSpec | None:
        """Return the listed model of that name or alias, never one that would merely be passed on."""
        spec = self._listing(provider).by_name.get(name)
        if spec is not None and provider.local and spec.method is None:
            # Was it prepared a moment ago? Only its files say which prompts it has.
            spec = self._listing(provider, fresh=True).by_name.get(name)
        return spec

    def list_again(self) -> None:
        """Ask all providers for their models at the next look: a model was just prepared."""
        self._listings = {}

    def resolve(self, provider: Provider, name: str) -> ModelSpec | None:
        """Return the model that `name` means at `provider`, or None if it is unknown there."""
        listed = self.listed(provider, name)
        if listed is not None:
            return listed
        spec = provider.resolve(name)
        if spec is None:
            return None
        operator = operator_settings()
        row = operator.models.get((provider.name, spec.name))
        return _as_set(spec, row, provider, operator)

    def _listing(self, provider: Provider, *, fresh: bool = False) -> "_Listing":
        """Return the models of `provider`: as they were a moment ago, since every request asks several times."""
        operator, now = operator_settings(), self.timer()
        kept = self._listings.get(provider.name)
        if (
            kept
            and not fresh
            and (kept.provider, kept.operator) == (provider, operator)
            and now < kept.until
        ):
            return kept
        listing = _listing_of(provider, operator, until=now + LISTING_SECONDS)
        self._listings[provider.name] = listing
        return listing

    def _build(self, name: str, options: Mapping[str, Any]) -> Provider | None:
        if name in BUILT_IN:
            module, _, attribute = BUILT_IN[name].partition(":")
            built_in: type[Provider] = getattr(import_module(module), attribute)
            return built_in.from_settings(options)
        if point := self._plugins.get(name):
            return self._build_plugin(point, options)
        return None

    def _build_plugin(
        self, point: EntryPoint, options: Mapping[str, Any]
    ) -> Provider | None:
        try:
            loaded = point.load()
            if not (isinstance(loaded, type) and issubclass(loaded, Provider)):
                raise TypeError(
                    f"{point.value} is not a subclass of providers.base.Provider"
                )
            if loaded.name != point.name.lower():
                raise TypeError(
                    f"{point.value} names itself {loaded.name!r}, its entry point {point.name.lower()!r}"
                )
            return loaded.from_settings(options)
        except (
            Exception
        ):  # a third party's code may raise anything; the server must start without it
            log.exception(
                "provider_plugin_skipped", provider=point.name, entry_point=point.value
            )
            self._plugins.pop(point.name.lower(), None)
            return None


@owned
def registry() -> Registry:
    """Return the process-wide registry."""
    return Registry(settings.PROVIDERS)


def _operator_options(name: str) -> dict[str, Any]:
    """Return the options of `name` that the operator set in the console."""
    row = operator_settings().providers.get(name)
    if row is None:
        return {}
    given = {"base_url": row.base_url, "timeout_seconds": row.timeout_seconds}
    return {option: value for option, value in given.items() if value is not None}


def _listing_of(
    provider: Provider, operator: OperatorSettings, *, until: float
) -> _Listing:
    rows = {
        name: row
        for (owner, name), row in operator.models.items()
        if owner == provider.name
    }
    models = [
        _as_set(spec, rows.pop(spec.name, None), provider, operator)
        for spec in provider.models()
    ]
    if not provider.local:  # a local model is its files; the console cannot add those
        models += [_as_set(row.spec, row, provider, operator) for row in rows.values()]
    by_name: dict[str, ModelSpec] = {}
    for spec in models:
        by_name.setdefault(spec.name, spec)
    for spec in models:  # a name wins over the alias of another
        for alias in spec.aliases:
            by_name.setdefault(alias, spec)
    return _Listing(
        provider=provider,
        operator=operator,
        until=until,
        models=tuple(models),
        by_name=by_name,
    )


def _as_set(
    spec: ModelSpec,
    row: ModelRow | None,
    provider: Provider,
    operator: OperatorSettings,
) -> ModelSpec:
    """Return `spec` as operators changed it; a remote one at the revision that they accepted last."""
    changed = _overlaid(spec, row, provider)
    return changed if provider.local else _at_revision(changed, provider, operator)


def _overlaid(spec: ModelSpec, row: ModelRow | None, provider: Provider) -> ModelSpec:
    """Return `spec` as the operator changed it. What a local model's own files say is not a matter of opinion."""
    if row is None:
        return spec
    own = spec if provider.local else row.spec
    changed = replace(
        spec,
        dimensions=own.dimensions,
        max_tokens=own.max_tokens,
        vector_space=own.vector_space,
        native_dimensions=own.native_dimensions,
        retired=row.spec.retired,
        price_per_million_tokens=row.spec.price_per_million_tokens,
    )
    if not provider.takes_prompts:
        return changed
    return with_prompts(changed, query=row.query_prompt, document=row.document_prompt)


def _at_revision(
    spec: ModelSpec, provider: Provider, operator: OperatorSettings
) -> ModelSpec:
    """Return a remote model's `spec` at the revision that was accepted last, and whether its vectors drifted since.

    At an address that was never checked the revision is that of the one before.
    """
    place = (provider.name, spec.name)
    space = operator.spaces.get((*place, address_key(provider.address())))
    space = space or operator.spaces.get((*place, ""))
    if space is None or space == SpaceRow(revision=1, drifted=False):
        return spec
    changed = replace(spec, space_revision=space.revision, drifted=space.drifted)
    if space.revision == 1:
        return changed
    # No model's name holds a "#".
    return replace(
        changed,
        revision=f"{spec.revision}#{space.revision}",
        vector_space=f"{spec.vector_space}#{space.revision}",
    )
