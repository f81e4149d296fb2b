"""Which model embeds documents and queries: pinned once, so that a fallback never mixes vector spaces. And how it has
documents cut."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from embeddings.conf import FallbackMode
from embeddings.services.callers import Caller
from embeddings.services.errors import InvalidRequest, ModelNotReady
from embeddings.services.routing import fallback_targets, primary_target
from embeddings.services.types import EmbeddingRequest, Failure, Target
from media_jobs.chunking import Span, TokenLimit, spans


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutter:
    """Cuts texts for one model: `size` and `overlap` in characters, and never over the model's token limit."""

    size: int
    overlap: int
    limit: TokenLimit | None

    @classmethod
    def of(cls, target: Target, *, size: int, overlap: int) -> Self:
        """Raises InvalidRequest where the model's prompt leaves no tokens for a text, and ProviderError."""
        tokenizer, limit = target.provider.tokenizer(target.model), None
        most, prompt = target.model.max_tokens, target.model.document_prompt
        if tokenizer is not None:
            # A model without a limit has its texts counted, too: those without a token are left out.
            limit = TokenLimit(
                tokenizer=tokenizer, max_tokens=most or sys.maxsize, prompt=prompt
            )
            if limit.overhead >= limit.max_tokens:
                raise InvalidRequest(
                    f"The document prompt of {target.label} leaves no tokens for a text in its {most} tokens:"
                    " shorten it."
                )
        elif most is not None:
            # The maker keeps its vocabulary to itself.
            size = min(size, max(1, 2 * most - len(prompt)))
        return cls(size=size, overlap=min(overlap, size // 2), limit=limit)

    def spans(self, text: str) -> Iterator[Span]:
        """Yield the chunks of `text`; none where the model can read nothing of it."""
        return spans(text, size=self.size, overlap=self.overlap, limit=self.limit)


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
