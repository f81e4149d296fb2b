"""Cutting: sizes, offsets, overlap and token limits, on texts made to be awkward."""

import itertools
import random
import re
import tracemalloc

import pytest

from media_jobs.chunking import WINDOW_CHARACTERS, Span, TokenLimit, spans
from tests.fakes import WordTokenizer
from tests.media_jobs.changing import InvisibleTokenizer

WORDS = [
    "cat",
    "Zwölf",
    "naïve",
    "東京都",
    "👩‍👩‍👧",
    "e\u0301",
    "antidisestablishmentarianism",
    "a",
]


class CharacterTokenizer(WordTokenizer):
    """Two tokens a character, so that a limit bites everywhere."""

    def count(self, texts):
        return [2 * len(text) for text in texts]


class JoiningTokenizer(WordTokenizer):
    """A blank is a token, or the beginning of the next."""

    def count(self, texts):
        return [len(re.findall(r" ?\S+| ", text)) for text in texts]


def text_of(characters, seed=0):
    """Return paragraphs of sentences of random words."""
    choose = random.Random(seed)
    parts, length = [], 0
    while length < characters:
        sentence = " ".join(choose.choices(WORDS, k=choose.randint(3, 20))) + ". "
        parts.append(sentence + ("\n\n" if choose.random() < 0.1 else ""))
        length += len(parts[-1])
    return "".join(parts)


def cut(text, size=200, overlap=0, limit=None):
    return list(spans(text, size=size, overlap=overlap, limit=limit))


def covered(text, found):
    """Return the characters that lie in no chunk."""
    left, position = [], 0
    for span in found:
        left.append(text[position : span.start])
        position = max(position, span.end)
    return "".join(left) + text[position:]


@pytest.mark.parametrize("size", [50, 200, 1000, 20_000])
@pytest.mark.parametrize("share", [0, 5])
def test_chunks_keep_the_size_and_leave_out_white_space_alone(size, share):
    text = text_of(30_000)
    found = cut(text, size, size // share if share else 0)
    assert max(span.end - span.start for span in found) <= size
    assert covered(text, found).strip() == ""


def test_text_without_boundaries_is_still_cut():
    text = "x" * 10_001
    found = cut(text, 500)
    assert covered(text, found) == ""
    assert found[0] == Span(0, 500)


def test_short_text_is_one_chunk_without_its_margins():
    assert cut("  A cat.\n") == [Span(2, 8)]


def test_chunks_end_where_sentences_do():
    text = "One two three. " * 100
    assert all(text[span.end - 1] == "." for span in cut(text, 100))


def test_neighbours_share_up_to_the_overlap():
    text = text_of(20_000)
    found = cut(text, 300, 100)
    shared = [a.end - b.start for a, b in itertools.pairwise(found)]
    assert 50 < max(shared) <= 100


def test_windows_leave_no_mark():
    """A text of several windows is covered whole, in order, and no chunk at a seam is cut short."""
    text = "Some words make a sentence here. " * (WINDOW_CHARACTERS * 2 // 33)
    found = cut(text, 200, 50)
    assert covered(text, found).strip() == ""
    assert found == sorted(found, key=lambda span: span.start)
    assert len(set(found)) == len(found)
    assert min(span.end - span.start for span in found[:-1]) > 150


def test_no_chunk_exceeds_the_token_limit():
    text = text_of(20_000)
    limit = TokenLimit(tokenizer=WordTokenizer(), max_tokens=10)
    found = cut(text, 500, 100, limit)
    counts = limit.tokenizer.count([text[span.start : span.end] for span in found])
    assert max(counts) <= 10
    assert covered(text, found).strip() == ""


def test_no_chunk_exceeds_the_limit_with_the_prompt_before_it():
    text = text_of(5_000)
    limit = TokenLimit(
        tokenizer=WordTokenizer(), max_tokens=10, prompt="three more words "
    )
    found = cut(text, 500, 0, limit)
    counts = [len(text[span.start : span.end].split()) for span in found]
    assert max(counts) == 7
    assert covered(text, found).strip() == ""


def test_text_that_just_fits_behind_the_prompt_stays_whole():
    limit = TokenLimit(
        tokenizer=WordTokenizer(), max_tokens=10, prompt="three more words "
    )
    assert len(cut("cat cat cat cat cat cat cat", 500, 0, limit)) == 1
    assert len(cut("cat cat cat cat cat cat cat cat", 500, 0, limit)) > 1


def test_prompt_is_counted_as_the_model_reads_it():
    """A tokenizer may join the prompt's end and the text's beginning."""
    text = "one two three four five"
    limit = TokenLimit(tokenizer=WordTokenizer(), max_tokens=5, prompt="pre-")
    assert cut(text, 500, 0, limit) == [Span(0, len(text))]


def test_chunks_that_leave_no_token_are_left_out():
    invisible = "\u200b" * 20
    text = f"One two three.\n\n{invisible}\n\nFour five six."
    limit = TokenLimit(tokenizer=InvisibleTokenizer(), max_tokens=9, prompt="pre ")
    found = cut(text, 20, 0, limit)
    assert [text[span.start : span.end] for span in found] == [
        "One two three.",
        "Four five six.",
    ]


def test_text_that_joins_the_prompt_s_last_token_is_kept():
    """The prompt ends in a token that the text's first word is joined to: the count does not grow."""
    limit = TokenLimit(tokenizer=JoiningTokenizer(), max_tokens=9, prompt="passage: ")
    assert cut("cat", 20, 0, limit) == [Span(0, 3)]


def test_limit_below_one_character_still_ends():
    limit = TokenLimit(tokenizer=CharacterTokenizer(), max_tokens=1)
    assert len(cut("abc", 200, 0, limit)) == 3


def test_long_blank_stretches_give_no_chunks():
    text = "start." + " " * (WINDOW_CHARACTERS * 2) + "end."
    assert [text[s.start : s.end] for s in cut(text)] == ["start.", "end."]


def test_cutting_is_the_same_every_time():
    text = text_of(50_000)
    assert cut(text, 300, 60) == cut(text, 300, 60)


def test_memory_does_not_grow_with_the_text():
    text = "Some words make a sentence here.\n\n" * 120_000  # 4 MB
    tracemalloc.start()
    count = sum(1 for _ in spans(text, size=1000, overlap=200))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count > 4000
    assert peak < 6 * 2**20
