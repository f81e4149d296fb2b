"""Which models there are, what each is like, and making one ready: warm-up and download."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings

from embeddings.conf import conf
from embeddings.services.callers import SYSTEM, Caller
from embeddings.services.errors import (
    InvalidRequest,
    ModelActionFailed,
    ModelNotFound,
    ModelNotReady,
    NotAllowed,
    ServiceError,
)
from embeddings.services.routing import (
    fallback_targets,
    find_target,
    is_allowed,
    is_model_allowed,
    named_provider,
    primary_target,
    split_model,
)
from embeddings.services.types import EmbeddingRequest, Target
from providers.addresses import environment_name, key_variable
from providers.base import Download, Provider, Serving
from providers.exceptions import ProviderError, ProviderMisconfigured, UnknownModel
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

    `problem`: why it cannot be served, with the remedy, or None.
    """

    loaded: bool | None
    downloaded: bool | None
    serving: Serving | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderState:
    """How a provider is set up. `kind` is its plug-in; `problem` says what is missing."""

    name: str
    kind: str
    local: bool
    allowed: bool
    problem: str | None
    models: tuple[ListedModel, ...]


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
    models = list(list_models())
    for provider in registry().all():
        yield ProviderState(
            name=provider.name,
            kind=registry().kind(provider.name),
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
    provider = target.provider
    return ModelState(
        target=target,
        allowed=is_allowed(target, caller),
        default=target.same_as(default_target()),
        loaded=provider.loaded(target.model),
        downloaded=provider.downloaded(target.model),
        serving=provider.serving(target.model),
        problem=target.problem(),
    )


def warm_up(
    *, model: str, provider: str | None = None, caller: Caller = SYSTEM
) -> tuple[Target, float]:
    """Load a model (local) or open its connection (remote); return the target and the seconds it took.

    Raises what `primary_target` raises, ModelNotReady or ModelActionFailed.
    """
    target = primary_target(model=model, provider=provider, caller=caller)
    timeout = (
        conf().engine_timeout_seconds
        if target.provider.local
        else conf().request_timeout_seconds
    )
    started = time.monotonic()
    try:
        target.provider.warm_up(target.model, timeout_seconds=timeout)
    except ProviderError as error:
        raise _not_done(error) from error
    return target, time.monotonic() - started


def download(
    *, model: str, provider: str | None = None, caller: Caller = SYSTEM
) -> tuple[Provider, Download]:
    """Fetch and prepare a local model's files. A name without a provider is fetched for `huggingface`.

    Raises InvalidRequest, NotAllowed, ModelNotFound, ModelNotReady or ModelActionFailed.
    """
    prefix, name = split_model(model)
    chosen = named_provider(provider or prefix or "huggingface")
    if not chosen.local:
        raise InvalidRequest(
            f"Provider {chosen.name} serves its models remotely; there is nothing to download.",
            param="provider",
        )
    if listed := registry().listed(chosen, name):
        name = listed.name  # what is allowed is said of full names
    if not is_model_allowed(chosen.name, name, caller):
        raise NotAllowed(f"Model '{name}' is not allowed", param="model")
    try:
        fetched = chosen.download(name)
    except ProviderError as error:
        raise _not_done(error) from error
    registry().list_again()
    return chosen, fetched


def _not_done(error: ProviderError) -> ServiceError:
    """Return why a model was not made ready: no such model, an operator must act first, or a failure."""
    if isinstance(error, UnknownModel):
        return ModelNotFound(error.message)
    if isinstance(error, ProviderMisconfigured):
        return ModelNotReady(error.message)
    return ModelActionFailed(error.message, param="model")
