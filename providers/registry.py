"""Which providers and models exist: plug-ins as installed, as the operator changed them, and upstreams they added.

Plug-ins are the built-ins (`providers/plugins/`), then packages with an entry point in `embeddings.providers`. Each is
a provider of its own name; a row of the operator's may be another one of the same kind.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import structlog
from django.conf import settings

from providers.addresses import environment_name
from providers.base import ModelSpec, Provider
from providers.built_in import built_in, option_of
from providers.canary import address_key
from providers.operator_settings import (
    ModelRow,
    OperatorSettings,
    SpaceRow,
    Upstream,
    operator_settings,
)
from providers.pools import is_served
from providers.prompts import with_prompts
from providers.state.process import owned
from providers.unusable import Unusable

ENTRY_POINT_GROUP = "embeddings.providers"
BUILT_IN = {one.name: one.place for one in built_in()}

# A model that was downloaded meanwhile is still found by `resolve`.
LISTING_SECONDS = 1.0
# What an added upstream has of its plug-in's options; its address and its key are its own.
SHARED_OPTIONS = ("timeout_seconds", "data_dir")

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

    A broken third-party plug-in is logged and left out, unless a row names it.
    """

    timer = staticmethod(time.monotonic)

    def __init__(self, options: Mapping[str, Mapping[str, Any]]) -> None:
        self._options = options
        self._lock = threading.RLock()
        self._built: dict[str, tuple[Upstream | None, Provider]] = {}
        self._named: tuple[OperatorSettings | None, tuple[str, ...]] = (None, ())
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

    def installed(self) -> tuple[str, ...]:
        """Return the names of the plug-ins, built-ins first."""
        return (*BUILT_IN, *sorted(self._plugins))

    def names(self) -> tuple[str, ...]:
        """Return the names of all providers: the plug-ins, then what operators added."""
        operator = operator_settings()
        read, names = self._named
        if read is not operator:
            installed = self.installed()
            names = (*installed, *sorted(operator.providers.keys() - {*installed}))
            self._named = (operator, names)
        return names

    def kind(self, name: str) -> str:
        """Return the plug-in of the provider of that name, installed or not."""
        row = operator_settings().providers.get(name)
        return row.upstream.kind if row else name

    def addable(self) -> tuple[str, ...]:
        """Return the kinds of which operators may add upstreams: plug-ins that do not compute here."""
        classes = {name: self.plugin(name) for name in self.installed()}
        return tuple(name for name, one in classes.items() if one and not one.local)

    def get(self, name: str) -> Provider | None:
        """Return the provider of that name (lower case), or None."""
        row = operator_settings().providers.get(name)
        upstream = row.upstream if row else None
        built = self._built.get(name)
        if built and built[0] is upstream:
            return built[1]
        plain = Upstream(kind=name)  # a row in which nothing is set is as good as none
        with self._lock:
            built = self._built.pop(name, None)
            if built and (built[0] or plain) == (upstream or plain):
                provider: Provider | None = built[1]
            else:
                provider = self._build(name, upstream)
            if provider is not None:
                self._built[name] = (upstream, provider)
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

    def members(self, pool: str) -> tuple[Provider, ...]:
        """Return who shares the vector space of the provider `pool`, itself left out."""
        names = operator_settings().pools.get(pool, ())
        return tuple(member for name in names if (member := self.get(name)))

    def pool_of(self, name: str) -> str | None:
        """Return the provider whose vector space the one of that name shares, or None."""
        row = operator_settings().providers.get(name)
        return row.pool or None if row else None

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
        return _as_set(spec, row, provider, operator, self.members)

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
        until = now + LISTING_SECONDS
        listing = _listing_of(provider, operator, self.members, until=until)
        self._listings[provider.name] = listing
        return listing

    def _build(self, name: str, upstream: Upstream | None) -> Provider | None:
        kind = upstream.kind if upstream else name
        plugin = self.plugin(kind)
        if plugin is not None:
            try:
                return self._instance(plugin, name, upstream)
            except Exception:  # a third party's code may raise anything
                log.exception("provider_not_built", provider=name, kind=kind)
        elif upstream is None:
            return None
        problem = f"The plug-in {kind} is not installed, or it failed: the log says why"
        return Unusable(name, problem)

    def _instance(
        self, plugin: type[Provider], name: str, upstream: Upstream | None
    ) -> Provider:
        """Build a plug-in's own provider, or one that operators added under another name. May raise anything."""
        kind = upstream.kind if upstream else name
        options = dict(self._options.get(environment_name(name), {}))
        if kind != name:
            shared = self._options.get(environment_name(kind), {})
            options |= {key: shared[key] for key in SHARED_OPTIONS if key in shared}
            options["name"] = name
        provider = plugin.from_settings(options | _set_options(plugin, upstream))
        if upstream and kind != name:
            provider.name = name
            provider.own_spaces = not _is_the_kind_s_service(plugin, upstream)
        return provider

    def plugin(self, kind: str) -> type[Provider] | None:
        """Return a plug-in's class, or None where there is none."""
        if kind in BUILT_IN:
            module, _, attribute = BUILT_IN[kind].partition(":")
            built_in: type[Provider] = getattr(import_module(module), attribute)
            return built_in
        point = self._plugins.get(kind)
        return self._loaded(point) if point else None

    def _loaded(self, point: EntryPoint) -> type[Provider] | None:
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
        except (
            Exception
        ):  # a third party's code may raise anything; the server must start without it
            log.exception(
                "provider_plugin_skipped", provider=point.name, entry_point=point.value
            )
            self._plugins.pop(point.name.lower(), None)
            self._named = (None, ())
            return None
        return loaded


@owned
def registry() -> Registry:
    """Return the process-wide registry."""
    return Registry(settings.PROVIDERS)


def _set_options(plugin: type[Provider], upstream: Upstream | None) -> dict[str, Any]:
    """Return the options that operators set in the console."""
    if upstream is None:
        return {}
    given: dict[str, Any] = {
        "base_url": upstream.base_url,
        "timeout_seconds": upstream.timeout_seconds,
        "batch_size": upstream.batch_size,
    }
    for variable in wires(plugin):
        given[option_of(variable, upstream.kind)] = upstream.wire
    return {option: value for option, value in given.items() if value is not None}


def wires(plugin: type[Provider] | None) -> Mapping[str, Sequence[str]]:
    """Return what a row of this kind may have as its wire, by the variable of the plug-in's own: one, or none."""
    choices: Mapping[str, Sequence[str]] = getattr(plugin, "choices", {})
    return choices if len(choices) == 1 else {}


def _is_the_kind_s_service(plugin: type[Provider], upstream: Upstream) -> bool:
    """Whether an added upstream is at the plug-in's own address; elsewhere the same name may be another model."""
    own = getattr(plugin, "default_base_url", "")  # "": it has no address at all
    return own is not None and (upstream.base_url or own).rstrip("/") == own


def _listing_of(
    provider: Provider,
    operator: OperatorSettings,
    members: Callable[[str], Sequence[Provider]],
    *,
    until: float,
) -> _Listing:
    rows = {
        name: row
        for (owner, name), row in operator.models.items()
        if owner == provider.name
    }
    models = [
        _as_set(spec, rows.pop(spec.name, None), provider, operator, members)
        for spec in provider.models()
    ]
    if not provider.local:  # a local model is its files; the console cannot add those
        models += [
            _as_set(row.spec, row, provider, operator, members) for row in rows.values()
        ]
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
    members: Callable[[str], Sequence[Provider]],
) -> ModelSpec:
    """Return `spec` as operators changed it; a remote one at the revision that they accepted last."""
    if provider.own_spaces:
        # With a colon, since NAME/MODEL may be the space of a model of the hub.
        spec = replace(spec, vector_space=f"{provider.name}:{spec.name}")
    changed = _overlaid(spec, row, provider)
    if provider.local:
        return changed
    changed = _at_revision(changed, provider, operator)
    if changed.drifted:
        others = members(provider.name)
        served = is_served(provider, others, changed, operator)
        return replace(changed, drifted=not served)  # by those that did not
    return changed


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
