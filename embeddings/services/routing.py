"""Which model of which provider serves a request, and which may stand in for it (CONTRACT sections 2 and 3)."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from embeddings.conf import DEFAULT_LOCAL_MODEL, conf
from embeddings.services.errors import InvalidRequest, ModelNotFound
from embeddings.services.types import EmbeddingRequest, Target
from providers.base import ModelSpec, Provider
from providers.registry import registry


def split_model(name: str) -> tuple[str | None, str]:
    """Split `provider:model`. The part before the first colon counts only if a provider of that name is registered."""
    prefix, colon, rest = name.partition(":")
    if colon and prefix.strip().lower() in registry().names():
        return prefix.strip().lower(), rest.strip()
    return None, name.strip()


def primary_target(*, model: str | None, provider: str | None) -> Target:
    """Return the target that a client asked for. Raises InvalidRequest or ModelNotFound."""
    prefix, name = split_model(conf().default_model if model is None else model)
    if not name:
        raise InvalidRequest(
            "model must name a model after the provider prefix.", param="model"
        )
    wanted = provider.strip().lower() if provider is not None else None
    if wanted is not None and wanted not in registry().names():
        raise InvalidRequest(f"Unknown provider: {provider}", param="provider")
    if prefix and wanted and prefix != wanted:
        raise InvalidRequest(
            f"The model names provider {prefix}, but the request names {wanted}.",
            param="provider",
        )
    chosen = wanted or prefix
    return _target_at(chosen, name) if chosen else _target_for_bare_name(name)


def fallback_targets(request: EmbeddingRequest, primary: Target) -> Iterator[Target]:
    """Yield, in order, the targets that may stand in for `primary`. Never one twice, never one unknown."""
    mode = request.fallback or conf().fallback
    if mode == "off":
        return
    for name in conf().fallback_chain.get(primary.provider, ()):
        provider = registry().get(name)
        target = (
            _stand_in(provider, primary)
            if provider and name != primary.provider
            else None
        )
        if target and (
            mode == "any" or target.model.vector_space == primary.model.vector_space
        ):
            yield target


def find_target(model_id: str) -> Target:
    """Return the target that `model_id` (bare or prefixed) names. Raises InvalidRequest or ModelNotFound."""
    return primary_target(model=model_id, provider=None)


def _target_at(provider_name: str, model_name: str) -> Target:
    provider = registry().get(provider_name)
    if provider is None:
        raise InvalidRequest(f"Unknown provider: {provider_name}", param="provider")
    spec = provider.resolve(model_name)
    if spec is None:
        raise ModelNotFound(
            f"Model '{model_name}' is not known to provider {provider_name};"
            " GET /api/v1/embeddings/models lists those that are."
        )
    return Target(provider=provider_name, model=spec)


def _target_for_bare_name(model_name: str) -> Target:
    """Choose the default provider if it lists the name or nobody does, else the first provider that lists it."""
    default = conf().default_provider
    order = [default, *(name for name in registry().names() if name != default)]
    for name in order:
        provider = registry().get(name)
        spec = listed(provider, model_name) if provider else None
        if spec:
            return Target(provider=name, model=spec)
    return _target_at(default, model_name)


def listed(provider: Provider, model_name: str) -> ModelSpec | None:
    """Return the listed model of that name or alias; unlike `resolve`, never one that is merely passed on."""
    return next(
        (
            spec
            for spec in provider.models()
            if model_name in (spec.name, *spec.aliases)
        ),
        None,
    )


def _stand_in(provider: Provider, primary: Target) -> Target | None:
    """Return what `provider` would run in place of `primary`: the same model if it lists it, else the mapped one."""
    name = primary.model.name
    spec = listed(provider, name) or provider.resolve(
        _mapped(name, conf().fallback_models)
    )
    return Target(provider=provider.name, model=spec) if spec else None


def _mapped(name: str, models: Mapping[str, str]) -> str:
    """Return the stand-in for `name`: its exact entry, else the longest pattern that fits, else the default model."""
    fitting = [
        pattern for pattern in models if pattern == name or fnmatchcase(name, pattern)
    ]
    if not fitting:
        return DEFAULT_LOCAL_MODEL
    return models[max(fitting, key=lambda pattern: (pattern == name, len(pattern)))]
