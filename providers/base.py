"""The whole plug-in contract: what a provider is, what it is asked, what it answers.

A provider is one class derived from `Provider`. Three methods are abstract; everything else has a working default.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
InputType = Literal["query", "document"]
Precision = Literal["exact", "fast"]
Sizes = range | tuple[int, ...]

# True while a circuit breaker lets one call through to learn whether the provider is back: try once, do not retry.
probing: ContextVar[bool] = ContextVar("probing", default=False)
# True while another upstream would answer the same at once: do not retry here.
replaceable: ContextVar[bool] = ContextVar("replaceable", default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What the makers of a local model say of it. Sizes are about right: of the files to fetch, on disk once it is
    prepared, and in memory in float32.

    `matryoshka`: to which sizes its vectors may be cut. The prompts are those of its card; whether they are used is up
    to its files and the operator. `licence` is None where the card names none. `gated`: its terms have to be accepted
    on the hub first.
    """

    parameters: int
    download_bytes: int
    disk_bytes: int
    memory_bytes: int
    licence: str | None
    languages: str
    pooling: str
    matryoshka: Sizes = ()
    query_prompt: str = ""
    document_prompt: str = ""
    gated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model of one provider, as the registry knows it.

    `native_dimensions` holds the sizes the model itself can answer in (`range(1, 1537)`, `(256, 512)`; empty: only
    `dimensions`). Two models with the same `vector_space` give vectors that may be compared with each other.
    `dimensions` is None where it is unknown until the first answer, `max_tokens` where the upstream alone judges.
    `common_names`: what other tools call this very model; a bare one means another provider's model before this one.
    `card`: what its makers say of a local model, where that is known.
    `retired`: withdrawn or superseded by its maker; still passed on. The price is the maker's list price in US dollars.
    `method`: how the vectors are computed here (`fp32`, `int8-static`, …); None for a remote model, and for a local one
    that is not prepared. The prompts are put before each text; `revision` changes with them and with the method.
    `space_revision` and `drifted` are the registry's, of remote models: the revision of its vectors that was accepted
    last, which is part of `revision` and `vector_space` from 2 on; and whether it gives others now.
    """

    name: str
    dimensions: int | None
    max_tokens: int | None
    vector_space: str
    native_dimensions: Sizes = ()
    aliases: tuple[str, ...] = ()
    common_names: tuple[str, ...] = ()
    revision: str = ""
    retired: bool = False
    price_per_million_tokens: float | None = None
    method: str | None = None
    query_prompt: str = ""
    document_prompt: str = ""
    space_revision: int = 1
    drifted: bool = False
    card: ModelCard | None = None

    @property
    def recommended_prompts(self) -> tuple[str, str] | None:
        """The prompts of its card for queries and documents, where others are used or none; else None.

        Before it is prepared, nobody knows which prompts its own files name.
        """
        if self.card is None or self.method is None:
            return None
        named = (self.card.query_prompt, self.card.document_prompt)
        used = (self.query_prompt, self.document_prompt)
        return named if any(named) and named != used else None

    @property
    def precision(self) -> Precision | None:
        """`exact`: float32 arithmetic; `fast`: anything less; None where `method` is not known."""
        if self.method is None:
            return None
        return "exact" if self.method == "fp32" else "fast"

    def prompt(self, input_type: InputType) -> str:
        """Return what is put before a text of this kind; empty without a prompt."""
        return self.query_prompt if input_type == "query" else self.document_prompt

    def prompted(self, texts: Sequence[str], input_type: InputType) -> list[str]:
        """Return `texts` as the model reads them: each after the prompt of its kind. `embed` begins with this."""
        prompt = self.prompt(input_type)
        return [prompt + text for text in texts] if prompt else list(texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What a provider answers: float32 (n, d) in input order, and the upstream's own token count if it gave one.

    `member`: whoever answered of a pool.
    """

    vectors: Vectors
    prompt_tokens: int | None = None
    member: str = ""


class Tokenizer(Protocol):
    """Count, cut and decode with one model's own vocabulary."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text as the model sees it, special tokens included."""

    def truncate(self, text: str, max_tokens: int) -> str:
        """Return the longest prefix of `text` found that counts at most `max_tokens`."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of `token_ids`. Raises ValueError for an id outside the vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """Where a model's files lie on this machine, and their size together in bytes."""

    model: ModelSpec
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How a local model is served on this machine.

    `runtime`: graph (built here from safetensors), exported (by torch, when it was prepared), onnx (the repository's
    own file), static (a table of token vectors), torch; None if it is not prepared. `needs_torch`: why only torch can
    run it, empty if that is not so.
    `verified`: `reference` (compared with sentence-transformers when it was prepared), `self` (with itself, in other
    batches), None if it is not prepared. `memory_bytes`: about what it takes while it is loaded, None if that is not
    known. `problem`: why it cannot be served, one sentence with the remedy, or None.
    """

    runtime: str | None = None
    device: str = "cpu"
    verified: Literal["reference", "self"] | None = None
    memory_bytes: int | None = None
    needs_torch: str = ""
    problem: str | None = None


class Provider(ABC):
    """One source of embeddings. Instances are shared by all threads of a process."""

    # The plug-in's on the class; on an instance that serves an upstream which operators added, that one's own.
    name: str
    # Set by the registry: an added upstream at an address of its own, so that its models are not the plug-in's.
    own_spaces: bool = False
    # Local providers hold weights; `loaded`, `downloaded`, warm-up and download mean something only for them.
    local: ClassVar[bool] = False
    # Whether `embed` puts `model.prompt` before each text. Where it does not, operators can set none.
    takes_prompts: ClassVar[bool] = False
    # Whether `embed` is never asked for a size: it answers whole vectors, and who asked cuts them to native sizes.
    whole: ClassVar[bool] = False
    # Whether queries and documents are asked for alike, but for the prompts: only then may it share a pool with
    # providers of other kinds.
    plain: ClassVar[bool] = False
    # Of built-ins, as literals (`providers/built_in.py`): the place in listings, and the fallbacks, in order, unless
    # EMBEDDINGS_FALLBACK_CHAIN says otherwise. Plug-ins of other packages come last, and have no fallback.
    order: ClassVar[int] = 100
    fallback: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def from_settings(cls, options: Mapping[str, Any]) -> Self:
        """Build the provider from its options (for built-ins: keys as in `settings.PROVIDERS[name]`).

        `name` is among them for an upstream that operators added."""

    @abstractmethod
    def models(self) -> Iterable[ModelSpec]:
        """Return the models this provider lists. An empty list means: any name is passed on (see `resolve`)."""

    @abstractmethod
    def embed(
        self,
        model: ModelSpec,
        texts: Sequence[str],
        *,
        dimensions: int | None,
        input_type: InputType,
        timeout_seconds: float,
    ) -> Embedded:
        """Embed `model.prompted(texts, input_type)`, float32 (len(texts), d) in input order, finite, of any length.

        `dimensions` is given only if it lies in `model.native_dimensions`. Raises a `ProviderError`; its class
        decides retry, breaker and fallback.
        """

    def resolve(self, name: str) -> ModelSpec | None:
        """Return the model of that name, else of that alias (case as given), or None if it is unknown here."""
        models = list(self.models())
        named = (spec for spec in models if name == spec.name)
        return next(named, next((s for s in models if name in s.aliases), None))

    def configuration_problem(self) -> str | None:
        """Say in one sentence what is missing (key, address, runtime), or None; nothing is called to find out."""
        return None

    def address(self) -> str:
        """Return where a remote provider is reached, empty if nobody can change that. Only its host is ever shown."""
        return ""

    def tokenizer(self, model: ModelSpec) -> Tokenizer | None:
        """Return the model's own tokenizer, or None where it is not public."""
        return None

    def warm_up(self, model: ModelSpec, *, timeout_seconds: float) -> None:
        """Make the next request fast: load weights, or open a connection. Raises ProviderError."""
        self.embed(
            model,
            ["warm up"],
            dimensions=None,
            input_type="document",
            timeout_seconds=timeout_seconds,
        )

    def healthy(self) -> bool:
        """Whether what computes here works; a remote provider's breaker knows more of it than it does itself."""
        return True

    def loaded(self, model: ModelSpec) -> bool | None:
        """Whether the weights are in memory; None for a remote model."""
        return None

    def downloaded(self, model: ModelSpec) -> bool | None:
        """Whether the weights are on disk and complete; None for a remote model."""
        return None

    def serving(self, model: ModelSpec) -> Serving | None:
        """Return how a local model is served here; None for a remote one."""
        return None

    def download(self, name: str) -> Download:
        """Fetch and prepare a model's files, listed or not. Raises ProviderError (UnknownModel: no such model).

        What takes long says how far it is to `providers.progress.progress()`, which raises where it is cancelled.
        """
        raise NotImplementedError(
            f"{self.name} serves its models remotely; there is nothing to download."
        )

    def outdated(self) -> list[str]:
        """Return the models on disk that an older version of this server prepared; `download` prepares them again."""
        return []
