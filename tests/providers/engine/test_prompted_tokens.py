"""Counting and cutting texts after a prompt, with real vocabularies of several kinds."""

import random
import re

import pytest
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RawTokenizer

from providers.engine.openai_tokenizer import openai_tokenizer
from providers.engine.tokenizer import _SLICE_CHARACTERS, ModelTokenizer
from providers.prompts import count_tokens, truncate

PROMPTS = ["", "query: ", "Represent this sentence:\n", "指示: "]
PIECES = [
    "cat",
    "unhappiness",
    "naïve",
    "東京都",
    "👩‍👩‍👧",
    "e\u0301",
    "\u200b",
    "\u200d",
    "3.14",
    "!?",
    "x" * 60,
    " ",
    "\n",
]


def sentencepiece():
    """A Unigram vocabulary with the normalisation of XLM-RoBERTa and T5, as their tokenizer.json writes it."""
    pieces = ["<unk>", "▁", "▁query", ":", "▁cat", "cat", "query", *"abcdefghijklmnop"]
    raw = RawTokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=0))
    raw.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("\u200b", " "),
            normalizers.Strip(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    return ModelTokenizer(raw)


@pytest.fixture(scope="module", params=["wordpiece", "sentencepiece", "tiktoken"])
def tokenizer(request, minilm, data_dir):
    if request.param == "wordpiece":
        return minilm.tokenizer(minilm.resolve("all-MiniLM-L6-v2"))
    if request.param == "sentencepiece":
        return sentencepiece()
    return openai_tokenizer("", cache_dir=data_dir / "tiktoken")


def counted(tokenizer, texts, prompt):
    [alone] = tokenizer.count([prompt])
    return count_tokens(tokenizer, texts, prompt=prompt, prompt_tokens=alone)


def longer(tokenizer, text, length, prompt):
    """Return the tokens of the prompt and `text` up to the next word that adds any to its first `length` letters."""
    [least] = tokenizer.count([prompt + text[:length]])
    for end in (*(word.end() for word in re.finditer(r"\S+", text)), len(text)):
        [count] = tokenizer.count([prompt + text[:end]])
        if end > length and count > least:
            return count
    raise AssertionError("All of the text would have fitted.")


def random_text(choose):
    pieces = choose.choices(PIECES, k=choose.randint(1, 40))
    return choose.choice(["", " "]).join(pieces)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_cut_text_is_a_prefix_that_fits_and_no_further_word_would(tokenizer, prompt):
    choose = random.Random(prompt)
    for _ in range(150):
        text, limit = random_text(choose), choose.randint(1, 30)
        cut = truncate(tokenizer, text, limit, prompt=prompt)
        assert text.startswith(cut)
        if cut:
            assert tokenizer.count([prompt + cut])[0] <= limit
        if tokenizer.count([prompt + text])[0] <= limit:
            assert cut == text
            continue
        assert longer(tokenizer, text, len(cut), prompt) > limit, (text, limit)


@pytest.mark.parametrize("length", [_SLICE_CHARACTERS - 3, _SLICE_CHARACTERS * 2 + 5])
def test_a_very_long_text_is_cut_with_the_prompt_in_mind(tokenizer, length):
    text = ("cat naïve " * (length // 10 + 1))[:length]
    cut = truncate(tokenizer, text, 100, prompt="query: ")
    assert text.startswith(cut)
    assert 95 <= tokenizer.count(["query: " + cut])[0] <= 100


def test_a_text_that_counts_too_much_only_in_pieces_is_not_left_over_the_limit(minilm):
    """One word of 300,000 letters is one unknown token, and two as it is counted."""
    own = minilm.tokenizer(minilm.resolve("all-MiniLM-L6-v2"))
    text = "x" * 300_000
    for limit in (3, 4):
        cut = truncate(own, text, limit, prompt="")
        assert own.count([cut])[0] <= limit


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize(
    ("text", "vocabularies"),
    [
        ("\u200b", {"wordpiece", "sentencepiece"}),
        ("\u200b \u200b\u200b", {"wordpiece", "sentencepiece"}),
        ("\x01\x7f\u200d", {"wordpiece"}),
        ("\u0301", {"wordpiece"}),
        ("\ufeff", {"wordpiece"}),
    ],
)
def test_a_text_of_which_no_token_is_left_counts_0(
    request, tokenizer, prompt, text, vocabularies
):
    expected = any(name in request.node.name for name in vocabularies)
    assert (counted(tokenizer, [text, "a"], prompt)[0] == 0) is expected


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("text", ["?", "—", "👩‍👩‍👧", "東", "\u200bcat", "a\u0301"])
def test_a_text_with_a_token_counts_all_of_them_and_the_prompt_s(
    tokenizer, prompt, text
):
    [alone, count] = tokenizer.count([prompt, prompt + text])
    assert count >= alone
    assert counted(tokenizer, [text], prompt) == [count]


def test_unknown_words_are_tokens_even_without_a_letter_of_the_vocabulary(tmp_path):
    raw = RawTokenizer(models.WordLevel({"[UNK]": 0, "query": 1}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert counted(ModelTokenizer(raw), ["☃", "слово"], "query ") == [2, 2]


def test_blanks_that_a_vocabulary_leaves_out_only_at_the_beginning_are_no_tokens():
    raw = RawTokenizer(models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("q", -1.0)], 0))
    raw.normalizer = normalizers.Sequence(
        [normalizers.Replace("\u200b", " "), normalizers.Strip(right=False)]
    )
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    own = ModelTokenizer(raw)
    assert own.count(["q", "q\u200b", "\u200b"]) == [1, 2, 0]
    assert counted(own, ["\u200b", "q"], "q") == [0, 2]


def test_letters_that_a_vocabulary_drops_are_no_tokens():
    """BPE without an unknown token leaves out what it does not know."""
    raw = RawTokenizer(models.BPE({"q": 0, "a": 1}, []))
    own = ModelTokenizer(raw)
    for prompt in ("", "q"):
        assert [bool(count) for count in counted(own, ["ж", "a", "жa"], prompt)] == [
            False,
            True,
            True,
        ]
