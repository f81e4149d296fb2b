"""Texts that every machine with Python has: the language reference and the standard library's own documentation."""

import ast
import functools
import math
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

BULK_TEXTS = 2048
WORDS = 30
MAX_PIECES = (
    180  # MiniLM takes 256 tokens; a text with more word parts and marks might be over
)
FOLDERS = (".", "asyncio", "email", "http", "logging", "multiprocessing", "unittest")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def bulk_texts(count: int = BULK_TEXTS) -> list[str]:
    """Return distinct texts of natural lengths, about 75 tokens on average, the same at every call on a machine."""
    texts = list(dict.fromkeys(_joined(_paragraphs())))
    if len(texts) < count:
        raise ValueError(f"Only {len(texts)} texts can be made here, not {count}")
    return random.Random(0).sample(texts, count)


def short_texts(count: int, *, start: int = 0) -> list[str]:
    """Return distinct sentences of 5 to 12 words. Different `start`s give different texts."""
    sentences = [
        sentence
        for paragraph in _paragraphs()
        for sentence in re.split(r"(?<=[.:;]) ", paragraph)
        if 5 <= len(sentence.split()) <= 12 and len(sentence) < 90
    ]
    random.Random(0).shuffle(sentences)
    return [
        f"{sentences[number % len(sentences)]} {number}"
        for number in range(start, start + count)
    ]


def _joined(paragraphs: list[str]) -> Iterator[str]:
    """Join paragraphs to texts: lengths spread as those of messages, passages and chunks do."""
    lengths, text = random.Random(0), ""
    wanted = _words(lengths)
    for paragraph in paragraphs:
        text = f"{text} {paragraph}".strip()
        if len(text.split()) >= wanted:
            if len(re.findall(r"[^\W_]{1,7}|[^\w\s]|_", text)) <= MAX_PIECES:
                yield text
            text, wanted = "", _words(lengths)


def _words(lengths: random.Random) -> float:
    """Return the least number of words of a text."""
    return lengths.lognormvariate(math.log(WORDS), 0.75)


@functools.cache
def _paragraphs() -> list[str]:
    pages = [topics[name] for name in sorted(topics)] + list(_docstrings())
    paragraphs = (
        re.sub(r"\s+", " ", paragraph).strip()
        for page in pages
        for paragraph in re.split(r"\n\s*\n", page)
    )
    return [
        paragraph for paragraph in dict.fromkeys(paragraphs) if _is_prose(paragraph)
    ]


def _is_prose(paragraph: str) -> bool:
    """Tell sentences from code and underlined titles."""
    letters = sum(map(str.isalpha, paragraph))
    return len(paragraph.split()) > 3 and letters > 0.75 * len(paragraph)


def _docstrings() -> Iterator[str]:
    library = Path(sysconfig.get_path("stdlib"))
    for folder in FOLDERS:
        for path in sorted((library / folder).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
                    yield text
