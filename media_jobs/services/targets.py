"""Which model embeds documents and queries: pinned once, so that a fallback never mixes vector spaces."""

from embeddings.conf import FallbackMode
from embeddings.services.callers import Caller
from embeddings.services.errors import ModelNotReady
from embeddings.services.routing import fallback_targets, primary_target
from embeddings.services.types import EmbeddingRequest, Failure, Target
from providers.registry import registry


def pinned_target(
    caller: Caller, *, model: str | None, provider: str | None = None
) -> Target:
    """Return the one model that a job will use.

    A caller that names no model gets the default one, or where that is not set up, what stands in for it. A model that
    is named is never exchanged for one of another space. Raises InvalidRequest, ModelNotFound, NotAllowed, or
    ModelNotReady where nothing that may serve is set up.
    """
    primary = primary_target(model=model, provider=provider, caller=caller)
    if configuration_problem(primary) is None:
        return primary
    mode: FallbackMode = "any" if model is None else "same_space"
    asked = EmbeddingRequest(inputs=[], caller=caller, fallback=mode)
    for target in fallback_targets(asked, primary):
        if configuration_problem(target) is None:
            return target
    problem = Failure(
        target=primary,
        reason="not_configured",
        message=configuration_problem(primary) or "",
    )
    raise ModelNotReady.of([problem])


def configuration_problem(target: Target) -> str | None:
    """Say what the target's provider lacks, or None."""
    provider = registry().get(target.provider)
    if provider is None:
        return f"The plug-in of {target.provider} is broken."
    return provider.configuration_problem()
