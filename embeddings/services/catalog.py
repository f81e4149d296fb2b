"""Which models there are, and what each is like. Making one ready is in model_actions.py."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings

from embeddings.conf import conf
from embeddings.services.action_records import (
    ActionState,
    latest_action,
    latest_actions,
)
from embeddings.services.callers import SYSTEM, Caller
from embeddings.services.errors import (
    ServiceError,
)
from embeddings.services.pool_states import MemberState, pool_states
from embeddings.services.routing import (
    fallback_targets,
    find_target,
    is_allowed,
)
from embeddings.services.types import EmbeddingRequest, Target
from providers.addresses import environment_name, key_variable
from providers.base import Serving
from providers.operator_settings import operator_settings
from providers.registry import registry

DEFAULT_PROVIDER = "EMBEDDINGS_DEFAULT_PROVIDER"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A target, and whether it may be used and serves requests that name no model."""

    target: Target
    allowed: bool
    default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState(ListedModel):
    """What is true of a model now. `loaded`, `downloaded` and `serving` are None for a remote model.

    `problem`: why it cannot be served, with the remedy, or None. `action`: its last download or warm-up, if any.
    """

    loaded: bool | None
    downloaded: bool | None
    serving: Serving | None
    problem: str | None
    action: ActionState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderState:
    """How a provider is set up. `kind` is its plug-in; `problem` says what is missing.

    `pool`: the provider in whose place it serves, too; `members` of its own pool, none if it is none.
    """

    name: str
    kind: str
    pool: str | None
    local: bool
    allowed: bool
    problem: str | None
    models: tuple[ListedModel, ...]
    members: tuple[MemberState, ...] = ()


def list_models(caller: Caller = SYSTEM) -> Iterator[ListedModel]:
    """Yield every model that a provider lists or the operator added, in the order of the providers."""
    default = default_target()
    for provider in registry().all():
        for spec in registry().models(provider):
            target = Target(provider=provider, model=spec)
            yield ListedModel(
                target=target,
                allowed=is_allowed(target, caller),
                default=target.same_as(default),
            )


def list_providers() -> Iterator[ProviderState]:
    """Yield every provider, used or not, with its models."""
    models, pools = list(list_models()), pool_states()
    for provider in registry().all():
        yield ProviderState(
            name=provider.name,
            kind=registry().kind(provider.name),
            pool=registry().pool_of(provider.name),
            members=pools.get(provider.name, ()),
            local=provider.local,
            allowed=operator_settings().allows_provider(provider.name),
            problem=provider.configuration_problem(),
            models=tuple(
                model for model in models if model.target.provider.name == provider.name
            ),
        )


def unknown_names() -> Iterator[tuple[str, str]]:
    """Yield each setting that names a provider which is neither installed nor added in the console, and a sentence."""
    known, chain = {*registry().names()}, conf().fallback_chain
    named = {
        DEFAULT_PROVIDER: {conf().default_provider},
        "EMBEDDINGS_FALLBACK_CHAIN": {*chain}.union(*chain.values()),
    }
    for variable, names in named.items():
        for name in sorted(names - known):
            yield variable, f"{variable} names {name}, which is no provider yet."
    keys = settings.PROVIDERS.keys() - {environment_name(name) for name in known}
    for name in sorted(keys):
        variable = key_variable(name)
        yield variable, f"{variable} is the key of no provider yet."


def default_target() -> Target | None:
    """Return what serves a request that names no model; None if the settings name one that nobody knows."""
    try:
        return find_target(model=None)
    except ServiceError:
        return None


def ready_models(caller: Caller) -> list[ListedModel]:
    """Return the models that `caller` may use and that are set up to serve here, withdrawn ones left out."""
    return [
        listed
        for listed in list_models(caller)
        if listed.allowed
        and not listed.target.model.retired
        and listed.target.problem() is None
    ]


def ready_default(caller: Caller) -> Target | None:
    """Return what serves `caller` where no model is named: the default, else the first fallback that is set up."""
    default = default_target()
    if default is None:
        return None
    asked = EmbeddingRequest(inputs=[], caller=caller, fallback="any")
    targets = [default] if is_allowed(default, caller) else []
    targets += fallback_targets(asked, default)
    return next((one for one in targets if one.problem() is None), None)


def model_state(model_id: str, caller: Caller = SYSTEM) -> ModelState:
    """Return what is known of `model_id`. Raises InvalidRequest or ModelNotFound."""
    target = find_target(model=model_id)
    listed = ListedModel(
        target=target,
        allowed=is_allowed(target, caller),
        default=target.same_as(default_target()),
    )
    return _state(listed, latest_action(target.provider.name, target.model.name))


def model_states(caller: Caller = SYSTEM) -> Iterator[ModelState]:
    """Yield what is known of every model that a provider lists or the operator added."""
    actions = latest_actions()
    for listed in list_models(caller):
        names = (listed.target.provider.name, listed.target.model.name)
        yield _state(listed, actions.get(names))


def _state(listed: ListedModel, action: ActionState | None) -> ModelState:
    target = listed.target
    provider, downloaded = target.provider, target.provider.downloaded(target.model)
    return ModelState(
        target=target,
        allowed=listed.allowed,
        default=listed.default,
        loaded=False if downloaded is False else provider.loaded(target.model),
        downloaded=downloaded,
        serving=provider.serving(target.model),
        problem=target.problem(),
        action=action,
    )
