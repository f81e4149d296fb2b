"""What the batcher needs of a runtime: it turns one batch of tokenised texts into vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from providers.base import Vectors
from providers.engine.tokenizer import ModelTokenizer, TokenIds
from providers.exceptions import ProviderMalformed

# What the class `exact` promises: cosine to sentence-transformers in float32 for every text, whatever else is in its
# batch; and what `fast` does: cosine to the exact vectors, for every text and on average.
EXACT_COSINE = 0.9999
FAST_COSINE, FAST_MEAN_COSINE = 0.97, 0.995


@dataclass(frozen=True, slots=True)
class Row:
    """One text, ready to run: its token ids, int64 (tokens,), special tokens included, and the text itself.

    `prompt` is what the text starts with and a model with `include_prompt: false` leaves out of its pooling;
    `prompt_tokens` is how many tokens that is.
    """

    token_ids: TokenIds
    text: str
    prompt: str = ""
    prompt_tokens: int = 0

    def __len__(self) -> int:
        return len(self.token_ids)


def rows_of(
    tokenizer: ModelTokenizer, texts: Sequence[str], prompt: str, *, pooled: bool
) -> list[Row]:
    """Return each text with the prompt before it, tokenised, in the order of `texts`.

    `pooled` False: the model leaves the prompt's tokens out of its pooling.
    """
    prompted = [prompt + text for text in texts] if prompt else list(texts)
    ids = tokenizer.encode(prompted)
    skipped = "" if pooled else prompt
    tokens = tokenizer.prompt_tokens(skipped) if skipped else 0
    return [
        Row(row, text, skipped, tokens) for row, text in zip(ids, prompted, strict=True)
    ]


class Runtime(Protocol):
    """One loaded model. `run` may be called by several engine threads at once."""

    def run(self, rows: Sequence[Row], *, wide: bool = False) -> Vectors:
        """Return float32 (len(rows), dimensions), in the order of `rows`. `wide`: nothing else runs, take all cores."""

    def rest(self) -> None:
        """Give back memory that only bulk needs."""


def check_vectors(vectors: Vectors, expected: int) -> None:
    """Raise ProviderMalformed where these are not so many vectors of finite numbers."""
    if vectors.ndim != 2 or len(vectors) != expected:
        raise ProviderMalformed(
            "The model answered with another number of vectors than texts."
        )
    if not np.isfinite(vectors).all():
        raise ProviderMalformed("The model answered with numbers that are not finite.")
