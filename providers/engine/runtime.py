"""What the batcher needs of a runtime: it turns one batch of tokenised texts into vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from providers.base import Vectors
from providers.engine.tokenizer import TokenIds


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


class Runtime(Protocol):
    """One loaded model. `run` may be called by several engine threads at once."""

    def run(self, rows: Sequence[Row], *, wide: bool = False) -> Vectors:
        """Return float32 (len(rows), dimensions), in the order of `rows`. `wide`: nothing else runs, take all cores."""

    def rest(self) -> None:
        """Give back memory that only bulk needs."""
