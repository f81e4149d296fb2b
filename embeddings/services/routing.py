"""Which model of which provider serves a request, and its fallbacks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from embeddings.conf import DEFAULT_LOCAL_MODEL, FallbackMode, conf
from embeddings.services.callers import SYSTEM, Caller
from embeddings.services.errors import InvalidRequest, ModelNotFound, NotAllowed
from embeddings.services.types import EmbeddingRequest, Target
from providers.base import Provider
from providers.exceptions import ProviderMisconfigured
from providers.operator_settings import operator_settings
from providers.patterns import fits
from providers.registry import registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """One place in a fallback chain. `left_out`: why this request does not go there, or None; then it has a target."""

    provider: str
    target: Target | None
    left_out: str | None = None


def split_model(name: str) -> tuple[str | None, str]:
    """Split `provider:model`. The part before the first colon counts only if a provider of that name is registered."""
    prefix, colon, rest = name.partition(":")
    if colon and prefix.strip().lower() in registry().names():
        return prefix.strip().lower(), rest.strip()
    return None, name.strip()


def primary_target(
    *, model: str | None, provider: str | None, caller: Caller = SYSTEM
) -> Target:
    """Return the target that a caller asked for; None means the default model.

    Raises InvalidRequest, ModelNotFound or NotAllowed.
    """
    target = find_target(model=model, provider=provider)
    _check_allowed(target, caller)
    return target


def requested_target(request: EmbeddingRequest) -> Target:
    """Return the target that a request brings, if its caller may use it, else the one it names.

    Raises what `primary_target` raises.
    """
    if request.target is None:
        return primary_target(
            model=request.model, provider=request.provider, caller=request.caller
        )
    _check_allowed(request.target, request.caller)
    return request.target


def fallback_targets(request: EmbeddingRequest, primary: Target) -> Iterator[Target]:
    """Yield, in order, the fallbacks of `primary`: known, allowed, and of its space if so asked."""
    for fallback in fallbacks(request, primary):
        if fallback.target is not None and fallback.left_out is None:
            yield fallback.target


def fallbacks(request: EmbeddingRequest, primary: Target) -> Iterator[Fallback]:
    """Yield, in order, all fallbacks that are set up for `primary`, and why this request does not go to some."""
    mode = fallback_mode(request)
    if mode == "off":
        return
    own = primary.provider.name
    for name in conf().fallback_chain.get(own, ()):
        provider = registry().get(name) if name != own else None
        target = _fallback_at(provider, primary) if provider else None
        if target is None:
            left_out: str | None = (
                "It knows no model to run in place of this one."
                if provider
                else "There is no such provider."
            )
        else:
            left_out = refusal(name, target.model.name, request.caller)
            if left_out is None and mode == "same_space":
                left_out = _other_space(target, primary)
        yield Fallback(provider=name, target=target, left_out=left_out)


def fallback_mode(request: EmbeddingRequest) -> FallbackMode:
    """Return the mode that the request asks for, else the server's."""
    return request.fallback or conf().fallback


def find_target(*, model: str | None, provider: str | None = None) -> Target:
    """Return the target that `model` (bare or prefixed) names, allowed or not. Raises InvalidRequest, ModelNotFound."""
    if model is None:
        return _default_target(provider)
    prefix, name = split_model(model)
    if not name:
        raise InvalidRequest(
            "model must name a model after the provider prefix.", param="model"
        )
    wanted = named_provider(provider) if provider is not None else None
    if prefix and wanted and prefix != wanted.name:
        raise InvalidRequest(
            f"The model names provider {prefix}, but the request names {wanted.name}.",
            param="provider",
        )
    if chosen := wanted or (named_provider(prefix) if prefix else None):
        return _target_at(chosen, name)
    return _target_for_bare_name(name)


def found_again(target: Target) -> Target:
    """Return the same model of the same provider as they are set up now. Raises InvalidRequest, ModelNotFound."""
    return _target_at(named_provider(target.provider.name), target.model.name)


def named_provider(name: str) -> Provider:
    """Return the provider of that name, in any case. Raises InvalidRequest where none can be had."""
    provider = registry().get(name.strip().lower())
    if provider is None:
        raise InvalidRequest(f"Unknown provider: {name}", param="provider")
    return provider


def check_set_up(target: Target) -> None:
    """Raises ProviderMisconfigured with what the target's provider lacks."""
    if problem := target.provider.configuration_problem():
        raise ProviderMisconfigured(problem)


def is_allowed(target: Target, caller: Caller = SYSTEM) -> bool:
    """Whether the allowlists, the console and the caller's own scopes let this target be used."""
    return is_model_allowed(target.provider.name, target.model.name, caller)


def is_model_allowed(provider: str, model: str, caller: Caller = SYSTEM) -> bool:
    """Tell the same of names, for a model that need not be known yet."""
    return refusal(provider, model, caller) is None


def refusal(provider: str, model: str, caller: Caller = SYSTEM) -> str | None:
    """Say who leaves this model out (the console, an allowlist, the caller's own scopes), or None if it may be used."""
    operator = operator_settings()
    if not operator.allows_provider(provider):
        row = operator.providers.get(provider)
        if row and not row.enabled:
            return f"Provider {provider} is switched off in the console."
        return f"The allowlist leaves provider {provider} out."
    if not operator.allows_model(provider, model):
        entry = operator.models.get((provider, model))
        if entry and not entry.enabled:
            return f"The model {provider}:{model} is switched off in the console."
        return f"The allowlist leaves the model {provider}:{model} out."
    if not caller.may_use_provider(provider):
        return f"The caller's own scopes leave provider {provider} out."
    if not caller.may_use(provider, model):
        return f"The caller's own scopes leave the model {provider}:{model} out."
    return None


def is_provider_allowed(provider: str, caller: Caller = SYSTEM) -> bool:
    """Whether the allowlist, the console and the caller's own scopes let this provider be used."""
    return operator_settings().allows_provider(provider) and caller.may_use_provider(
        provider
    )


def _check_allowed(target: Target, caller: Caller) -> None:
    if is_allowed(target, caller):
        return
    name = target.provider.name
    if not is_provider_allowed(name, caller):
        raise NotAllowed(f"Provider '{name}' is not allowed", param="provider")
    raise NotAllowed(f"Model '{target.model.name}' is not allowed", param="model")


def _default_target(provider: str | None) -> Target:
    """Return the console's default model, else the environment's."""
    for (owner, name), row in operator_settings().models.items():
        if row.default and provider in (None, owner):
            return find_target(model=f"{owner}:{name}")
    return find_target(model=conf().default_model, provider=provider)


def _target_at(provider: Provider, model_name: str) -> Target:
    spec = registry().resolve(provider, model_name)
    if spec is None:
        raise ModelNotFound(
            f"Model '{model_name}' is not known to provider {provider.name};"
            " GET /api/v1/embeddings/models lists those that are."
        )
    return Target(provider=provider, model=spec)


def _target_for_bare_name(model_name: str) -> Target:
    """Choose the default provider if it lists the name or nobody does, else the first provider that lists it.

    A name that other tools made common means a local model only where no other provider that is set up lists it.
    """
    default = conf().default_provider
    order = [default, *(name for name in registry().names() if name != default)]
    first = ready = common = None
    for name in order:
        provider = registry().get(name)
        if not provider or not (spec := registry().listed(provider, model_name)):
            continue
        target = Target(provider=provider, model=spec)
        if model_name in spec.common_names:
            common = common or target
        else:
            first = first or target
            set_up = provider.configuration_problem() is None
            if set_up and first is target:
                return target
            ready = ready or (target if set_up else None)
    chosen = ready or common if common else first
    return chosen or _target_at(named_provider(default), model_name)


def _fallback_at(provider: Provider, primary: Target) -> Target | None:
    """Return what `provider` would run in place of `primary`: the same model if it lists it, else the mapped one."""
    name = primary.model.name
    spec = registry().listed(provider, name) or registry().resolve(
        provider, _mapped(name, conf().fallback_models)
    )
    return Target(provider=provider, model=spec) if spec else None


def _other_space(target: Target, primary: Target) -> str | None:
    """Say why the target's vectors may not be compared with the primary's, or None: as far as is known they may."""
    if target.model.vector_space != primary.model.vector_space:
        return f"Its vectors are of another space ({target.model.vector_space})."
    return (
        "Its vectors have drifted from their space." if target.model.drifted else None
    )


def _mapped(name: str, models: Mapping[str, str]) -> str:
    """Return the fallback model for `name`: its entry, else the longest pattern that fits, else the default model."""
    fitting = [pattern for pattern in models if fits(pattern, name)]
    if not fitting:
        return DEFAULT_LOCAL_MODEL
    return models[max(fitting, key=lambda pattern: (pattern == name, len(pattern)))]
