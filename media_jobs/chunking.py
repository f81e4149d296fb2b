"""Text to spans: at natural boundaries, of bounded size in characters and in tokens, with exact offsets. Plain Python.

A long text is cut window by window, so that what the splitter holds at once stays small: in a text without any marks,
such as Chinese without punctuation, it takes time by the square of that. The last chunk of a window is cut again with
what follows it: only there does the window's end show.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from semantic_text_splitter import TextSplitter

from providers.base import Tokenizer
from providers.prompts import count_tokens

# Raised whenever this module cuts some text otherwise than before.
CHUNKER_VERSION = 3
WINDOW_CHARACTERS = 1 << 15
WINDOW_CHUNKS = 4
# How much of what the token limit would allow on average is tried when a chunk must be cut smaller.
TOKEN_MARGIN = 0.9


@dataclass(frozen=True, slots=True)
class Span:
    """A chunk's place: `text[start:end]`, in characters (Unicode code points)."""

    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class TokenLimit:
    """No chunk may count more than `max_tokens`, with `prompt` before it as the model reads it."""

    tokenizer: Tokenizer
    max_tokens: int
    prompt: str = ""

    @functools.cached_property
    def overhead(self) -> int:
        """What the prompt and the special tokens count without a text."""
        return self.tokenizer.count([self.prompt])[0]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text with the prompt before it; 0 where the tokenizer leaves nothing of it."""
        return count_tokens(
            self.tokenizer, texts, prompt=self.prompt, prompt_tokens=self.overhead
        )


def chunker() -> str:
    """Return what cuts: another one may cut the same text elsewhere."""
    return f"{CHUNKER_VERSION} {version('semantic-text-splitter')}"


def spans(
    text: str, *, size: int, overlap: int, limit: TokenLimit | None = None
) -> Iterator[Span]:
    """Yield the chunks of `text` in order, each of at most `size` characters, up to `overlap` of them shared."""
    splitter = TextSplitter(size, overlap=overlap)
    window = max(WINDOW_CHARACTERS, WINDOW_CHUNKS * size)
    start = 0
    while start < len(text):
        end = start + window
        found = _split(splitter, text, start, end)
        if end < len(text) and len(found) > 1:
            found, resume_at = found[:-1], found[-1].start
        else:
            resume_at = end
        yield from _within(limit, text, found, overlap) if limit else found
        start = resume_at


def _split(splitter: TextSplitter, text: str, start: int, end: int) -> list[Span]:
    return [
        Span(start + offset, start + offset + len(chunk))
        for offset, chunk in splitter.chunk_indices(text[start:end])
        if chunk.strip()
    ]


def _within(
    limit: TokenLimit, text: str, found: Sequence[Span], overlap: int
) -> Iterator[Span]:
    """Yield `found`, with what counts too many tokens cut smaller and what counts none left out."""
    counts = limit.count([text[span.start : span.end] for span in found])
    for span, count in zip(found, counts, strict=True):
        length = span.end - span.start
        if count == 0:
            continue
        if count <= limit.max_tokens or length == 1:
            yield span
            continue
        left = limit.max_tokens - limit.overhead
        share = left / max(1, count - limit.overhead)
        size = max(1, int(length * share * TOKEN_MARGIN))
        splitter = TextSplitter(size, overlap=min(overlap, size // 5))
        parts = _split(splitter, text, span.start, span.end)
        yield from _within(limit, text, parts, overlap)
