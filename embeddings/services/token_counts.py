"""How many tokens a text has, remembered: a text whose vector is cached need not be tokenised to be counted."""

import threading
from collections.abc import Callable, Sequence

from providers.metrics import timed
from providers.state.process import owned

MAX_REMEMBERED = 50_000  # some 8 MB


class TokenCounts:
    """Counts by cache key, which stands for model, prompt and text. Who was added first goes first."""

    def __init__(self, *, max_size: int = MAX_REMEMBERED) -> None:
        self._max_size = max_size
        self._counts: dict[bytes, int] = {}
        self._lock = threading.Lock()  # of those who add; to look needs none

    def of(
        self,
        keys: Sequence[bytes],
        texts: Sequence[str],
        count: Callable[[Sequence[str]], list[int]],
        *,
        provider: str,
    ) -> list[int]:
        """Return the tokens of each text, whose key stands at the same place. What is new is counted in one go."""
        found = [self._counts.get(key, -1) for key in keys]
        new = [index for index, count in enumerate(found) if count < 0]
        if new:
            with timed(provider, "tokenise"):
                counted = count([texts[index] for index in new])
            for index, tokens in zip(new, counted, strict=True):
                found[index] = tokens
            self._remember({keys[index]: found[index] for index in new})
        return found

    def _remember(self, counts: dict[bytes, int]) -> None:
        with self._lock:
            self._counts |= counts
            while len(self._counts) > self._max_size:
                del self._counts[next(iter(self._counts))]


@owned
def token_counts() -> TokenCounts:
    """Return the counts of this process."""
    return TokenCounts()
