"""Which models there are, what each is like, and making one ready: warm-up and download."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from embeddings.conf import conf
from embeddings.services.errors import InvalidRequest, ModelActionFailed, ModelNotFound
from embeddings.services.routing import find_target, primary_target, split_model
from embeddings.services.types import Target
from providers.base import Download, Provider
from providers.exceptions import ProviderError, UnknownModel
from providers.registry import registry


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """A target with what is true of it now. `loaded` and `downloaded` are None for a remote model."""

    target: Target
    allowed: bool
    default: bool
    loaded: bool | None
    downloaded: bool | None


def list_models() -> Iterator[Target]:
    """Yield every model that a provider lists, in the order of the providers."""
    for provider in registry().all():
        for spec in provider.models():
            yield Target(provider=provider.name, model=spec)


def default_target() -> Target:
    """Return what serves a request that names no model."""
    return primary_target(model=None, provider=None)


def model_state(model_id: str) -> ModelState:
    """Return what is known of `model_id`. Raises InvalidRequest or ModelNotFound."""
    target = find_target(model_id)
    provider = _provider(target.provider)
    return ModelState(
        target=target,
        allowed=True,
        default=target.same_as(default_target()),
        loaded=provider.loaded(target.model),
        downloaded=provider.downloaded(target.model),
    )


def warm_up(*, model: str, provider: str | None = None) -> tuple[Target, float]:
    """Load a model (local) or open its connection (remote); return the target and the seconds it took."""
    target = primary_target(model=model, provider=provider)
    started = time.monotonic()
    try:
        _provider(target.provider).warm_up(
            target.model, timeout_seconds=conf().engine_timeout_seconds
        )
    except ProviderError as error:
        raise ModelActionFailed(error.message, param="model") from error
    return target, time.monotonic() - started


def download(*, model: str, provider: str | None = None) -> tuple[Provider, Download]:
    """Fetch and prepare a local model's files. A name without a local provider is fetched for `huggingface`."""
    prefix, name = split_model(model)
    wanted = (provider or prefix or "").strip().lower()
    if wanted and wanted not in registry().names():
        raise InvalidRequest(
            f"Unknown provider: {provider or prefix}", param="provider"
        )
    chosen = _provider(wanted or "huggingface")
    if not chosen.local:
        raise InvalidRequest(
            f"Provider {chosen.name} serves its models remotely; there is nothing to download.",
            param="provider",
        )
    try:
        return chosen, chosen.download(name)
    except UnknownModel as error:
        raise ModelNotFound(error.message) from error
    except ProviderError as error:
        raise ModelActionFailed(error.message, param="model") from error


def _provider(name: str) -> Provider:
    provider = registry().get(name)
    if provider is None:
        raise InvalidRequest(f"Unknown provider: {name}", param="provider")
    return provider
