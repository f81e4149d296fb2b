"""Which model embeds documents and queries: pinned once, so that a fallback never mixes vector spaces."""

from dataclasses import dataclass

from embeddings.conf import FallbackMode
from embeddings.services.callers import Caller
from embeddings.services.errors import ModelNotReady
from embeddings.services.routing import fallback_targets, primary_target
from embeddings.services.types import EmbeddingRequest, Failure, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What decides which vector a document's text gets. A document's vectors are all of one identity.

    `native_dimensions`: the size that the model itself is asked for; None: its own, cut or filled here.
    """

    provider: str
    model: str
    revision: str
    method: str | None
    prompt: str
    vector_space: str
    native_dimensions: int | None


def identity_of(target: Target, *, dimensions: int | None) -> Identity:
    """Return the identity of the vectors that `target` makes of documents now, where so many dimensions are asked."""
    model = target.model
    return Identity(
        provider=target.provider.name,
        model=model.name,
        revision=model.revision,
        method=model.method,
        prompt=model.document_prompt,
        vector_space=model.vector_space,
        native_dimensions=target.native_size(dimensions),
    )


def pinned_target(
    caller: Caller, *, model: str | None, provider: str | None = None
) -> Target:
    """Return the one model that a job will use.

    A caller that names no model gets the default one, or where that is not set up, its fallback. A model that
    is named is never exchanged for one of another space. Raises InvalidRequest, ModelNotFound, NotAllowed, or
    ModelNotReady where nothing that may serve is set up.
    """
    primary = primary_target(model=model, provider=provider, caller=caller)
    problem = primary.problem()
    if problem is None:
        return primary
    mode: FallbackMode = "any" if model is None else "same_space"
    asked = EmbeddingRequest(inputs=[], caller=caller, fallback=mode)
    for target in fallback_targets(asked, primary):
        if target.problem() is None:
            return target
    failure = Failure(target=primary, reason="not_configured", message=problem)
    raise ModelNotReady.of([failure])
