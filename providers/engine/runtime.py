"""What the batcher needs of a runtime: it turns one batch of tokenised texts into vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from providers.base import Vectors
from providers.engine.tokenizer import ModelTokenizer, TokenIds

# What the class `exact` promises: cosine to sentence-transformers in float32 for every text, whatever else is in its
# batch; and what `fast` does: cosine to the exact vectors, for every text and on average.
EXACT_COSINE = 0.9999
FAST_COSINE, FAST_MEAN_COSINE = 0.97, 0.995


@dataclass(frozen=True, slots=True)
class Row:
    """One text, ready to run: its token ids, int64 (tokens,), special tokens included, and the text itself."""

    token_ids: TokenIds
    text: str

    def __len__(self) -> int:
        return len(self.token_ids)


def rows_of(tokenizer: ModelTokenizer, texts: Sequence[str], prompt: str) -> list[Row]:
    """Return each text with the prompt before it, tokenised, in the order of `texts`."""
    prompted = [prompt + text for text in texts] if prompt else list(texts)
    ids = tokenizer.encode(prompted)
    return [Row(row, text) for row, text in zip(ids, prompted, strict=True)]


class Runtime(Protocol):
    """One loaded model. `run` may be called by several engine threads at once."""

    def run(self, rows: Sequence[Row], *, wide: bool = False) -> Vectors:
        """Return float32 (len(rows), dimensions), in the order of `rows`. `wide`: nothing else runs, take all cores."""

    def rest(self) -> None:
        """Give back memory that only bulk needs."""
