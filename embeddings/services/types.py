"""What crosses the layers: a request for embeddings, where it goes, and what comes back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from embeddings.conf import DimensionsPolicy, FallbackMode
from embeddings.services.callers import SYSTEM, Caller
from providers.base import InputType, ModelSpec, Provider, Vectors

Vocabulary = Literal["openai", "model"]
Input = str | list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One model at one provider: where a request may be served.

    Both are as the operator had them when the target was made: it knows nothing of an address, a key or a prompt that
    changes later. So a target is for one request; what lasts longer finds it again for each (`routing.found_again`).
    """

    provider: Provider
    model: ModelSpec

    @property
    def label(self) -> str:
        """The model's name on the wire: bare for openai, else prefixed with its provider."""
        owner, name = self.provider.name, self.model.name
        return name if owner == "openai" else f"{owner}:{name}"

    def problem(self) -> str | None:
        """Say why it cannot be served here until somebody does something, or None."""
        serving = self.provider.serving(self.model)
        return self.provider.configuration_problem() or (
            serving.problem if serving else None
        )

    def native_size(self, asked: int | None) -> int | None:
        """Return `asked` if the provider can be asked for that size, else None: the model's own."""
        if asked is None:  # a range would be searched for it, number by number
            return None
        own = self.provider.whole or asked not in self.model.native_dimensions
        return None if own else asked

    def cuts_to(self, asked: int) -> bool:
        """Whether the model's vectors, which come whole, are made to be cut to that size (Matryoshka)."""
        return self.provider.whole and asked in self.model.native_dimensions

    def same_as(self, other: "Target | None") -> bool:
        """Whether both name one model of one provider, at whatever address and revision."""
        return other is not None and self.label == other.label


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """One caller's texts or token arrays, and what they ask of the answer.

    `user` is the client's own word for whom it asks; it is stored with usage and never logged with text.
    `model` is `model` or `provider:model`; None means the default model. `fallback` None means the server's setting.
    `target`: what whoever asks has found already; then `model` and `provider` say nothing, and it is only checked.
    `place` is what the client calls its inputs, for errors that name one; `{}` stands for the index.
    `cached` False leaves the cache to others: whoever embeds whole documents would drive out what is asked for again.
    `stored`: the vectors go into an index, so that a remote model serves only if its space is as it was.
    """

    inputs: Sequence[Input]
    caller: Caller = SYSTEM
    user: str | None = None
    model: str | None = None
    provider: str | None = None
    target: Target | None = None
    dimensions: int | None = None
    fallback: FallbackMode | None = None
    truncate: bool = False
    vocabulary: Vocabulary = "openai"
    input_type: InputType = "document"
    place: str = "input[{}]"
    cached: bool = True
    stored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingResult:
    """`vectors`: float32 (n, d), unit length (a zero vector stays zero), in the order of the inputs.

    `name`: under which the model is counted. `cache_hits`: texts that were not computed for this request.
    `computed_tokens`: tokens of those that were. `member`: who answered of a pool, empty if nobody was called.
    """

    vectors: Vectors
    target: Target
    name: str
    prompt_tokens: int
    fallback_from: str | None = None
    dimensions_policy: DimensionsPolicy | None = None
    truncated: int = 0
    cache_hits: int = 0
    computed_tokens: int = 0
    member: str = ""

    @property
    def cost(self) -> int:
        """Return what the computed tokens cost, in units of 10^-10 US dollars."""
        # Dollars a million tokens, with four decimals at most, are whole units a token.
        price = self.target.model.price_per_million_tokens or 0
        return round(self.computed_tokens * price * 10_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why one target could not serve: `reason` is a constant word, `message` a public sentence."""

    target: Target
    reason: str
    message: str
    retry_after_seconds: float | None = None
