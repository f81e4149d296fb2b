"""The words of a question, and which of them are worth looking up. What else a question holds is no query syntax."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from math import log1p

MAX_CHARACTERS = 4000  # of a question, read for words
MAX_WORDS = 64
# So many words in a row are no accident.
QUOTED_WORDS = 5
# Ranking costs a few microseconds a match. Words that match more than this together say little anyway.
MAX_MATCHES = 20_000


def words_of(text: str) -> list[str]:
    """Return the words of `text`, each once: runs of letters, marks and digits."""
    letters = "".join(
        character if unicodedata.category(character)[0] in "LMN" else " "
        for character in text[:MAX_CHARACTERS]
    )
    by_lower = {word.lower(): word for word in reversed(letters.split())}
    return list(by_lower.values())[::-1][:MAX_WORDS]


def quotes(text: str, passage: str) -> bool:
    """Tell whether `text` is long enough to be a quotation, and `passage` holds its words one after the other."""
    wanted, held = _all_words(text), _all_words(passage)
    return (
        len(wanted) >= QUOTED_WORDS and f" {' '.join(wanted)} " in f" {' '.join(held)} "
    )


def _all_words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def telling(counts: Mapping[str, int], *, max_matches: int = MAX_MATCHES) -> list[str]:
    """Return the rarest words, as many as match no more than `max_matches` chunks together."""
    chosen = []
    total = 0
    for word, count in sorted(counts.items(), key=lambda item: item[1]):
        total += count
        if total > max_matches:
            break
        chosen.append(word)
    return chosen


def rarity(count: int, total: int) -> float:
    """Return a word's weight by how many of `total` chunks hold it: BM25's inverse document frequency.

    https://en.wikipedia.org/wiki/Okapi_BM25
    """
    return log1p((max(total - count, 0) + 0.5) / (count + 0.5))


def fused(*rankings: Sequence[int], k: int = 60) -> list[tuple[int, float]]:
    """Merge rankings of ids by reciprocal rank fusion, best first; equals in the order of their ids.

    Each ranking gives 1 / (k + rank), counted from 1: Cormack, Clarke and Buettcher, SIGIR 2009,
    https://doi.org/10.1145/1571941.1572114.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, one in enumerate(ranking, start=1):
            scores[one] = scores.get(one, 0.0) + 1 / (k + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
