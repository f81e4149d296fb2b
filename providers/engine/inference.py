"""What runs models for the local plug-ins: in this process (`Pool`), or in the engine process (`EngineClient`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from providers.base import Precision, Tokenizer, Vectors
from providers.engine.files import Manifest
from providers.engine.prepared import Prepared
from providers.engine.runtime import Row, rows_of
from providers.engine.tokenizer import ModelTokenizer
from providers.exceptions import TextsTooLong


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Texts for one model. `revision` is the model's as the caller knows it; `prompt` stands before each text."""

    model: str
    precision: Precision
    revision: str
    texts: Sequence[str]
    prompt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState:
    """The process that runs models. `loaded`: of each model in memory `model`, `precision` and `size_bytes`."""

    pid: int
    up_seconds: float
    memory_bytes: int
    queued_tokens: int
    loaded: Sequence[Mapping[str, Any]]


class Inference(Protocol):
    """The models in memory, wherever that is."""

    def run(self, work: Work, *, timeout_seconds: float) -> Vectors:
        """Return float32 (len(work.texts), dimensions) in their order. Raises ProviderError."""

    def tokenizer(self, name: str) -> Tokenizer:
        """Return the model's tokenizer. Raises ProviderMisconfigured where the model is not prepared."""

    def loaded(self, name: str, precision: Precision) -> bool:
        """Whether the model is in memory."""

    def refusal(self, name: str, precision: Precision) -> str | None:
        """Return why a model failed its check when it was loaded, until it is prepared again."""

    def healthy(self) -> bool:
        """Whether what computes works."""

    def state(self) -> EngineState | None:
        """Return how the process that runs models is; None where it does not say."""

    def follow(self, name: str, manifest: Manifest) -> None:
        """Drop what is in memory of a model that was prepared again since."""

    def close(self) -> None:
        """Let go of memory, threads and connections. It can be used again."""


def revision_of(prepared: Prepared, precision: Precision) -> str:
    """Return what changes whenever the model's vectors do; a registry may append to it what operators changed."""
    return f"{prepared.revision}.{prepared.method(precision)}"


def checked_rows(
    prepared: Prepared, tokenizer: ModelTokenizer, texts: Sequence[str], prompt: str
) -> list[Row]:
    """Tokenise texts with the prompt before each. Raises TextsTooLong.

    The service let some pass: text beyond a slice is counted there in pieces, and files may have changed.
    """
    config = prepared.config
    rows = rows_of(tokenizer, texts, prompt, pooled=config.include_prompt)
    limit = config.max_tokens
    if limit is not None:
        sized = zip(texts, rows, strict=True)
        over = {text: len(row) for text, row in sized if len(row) > limit}
        if over:
            raise TextsTooLong(model=prepared.name, max_tokens=limit, tokens=over)
    return rows
