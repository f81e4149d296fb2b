"""The corpora: natural texts in requests of one size, counted with the model's own tokenizer."""

from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.corpus import bulk_texts
from benchmarks.workloads import Corpus

LONG_TOKENS = range(440, 511)


def bulk_corpus(model_folder: Path, count: int, *, in_request: int) -> Corpus:
    """Return `count` distinct texts of natural lengths, about 75 tokens on average."""
    texts = bulk_texts()[:count]
    return in_requests(texts, _tokens(model_folder, texts), in_request)


def long_corpus(model_folder: Path, count: int, *, in_request: int) -> Corpus:
    """Return `count` distinct texts of nearly 512 tokens, each joined of several."""
    pieces = bulk_texts()
    texts, tokens = [], []
    text, length = "", 0
    for piece, size in zip(pieces, _tokens(model_folder, pieces), strict=True):
        if length + size - 2 < LONG_TOKENS.stop:
            text, length = f"{text} {piece}".strip(), length + size - 2
        if length + 2 in LONG_TOKENS:
            texts.append(text)
            tokens.append(length + 2)
            text, length = "", 0
        if len(texts) == count:
            break
    return in_requests(texts, tokens, in_request)


def in_requests(texts: list[str], tokens: list[int], size: int) -> Corpus:
    starts = range(0, len(texts), size)
    return Corpus(
        requests=[texts[start : start + size] for start in starts],
        tokens=[sum(tokens[start : start + size]) for start in starts],
    )


def _tokens(model_folder: Path, texts: list[str]) -> list[int]:
    tokenizer = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [len(row.ids) for row in tokenizer.encode_batch(texts)]
