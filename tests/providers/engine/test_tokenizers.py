"""Counting, cutting and decoding, with real vocabularies."""

import random

import pytest
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import models, pre_tokenizers

from providers.engine.openai_tokenizer import _loaded, openai_tokenizer
from providers.engine.tokenizer import _SLICE_CHARACTERS, ModelTokenizer
from providers.exceptions import ProviderMisconfigured
from tests.providers.engine import tiny

STRANGE = [
    "",
    " ",
    "\x00\x01",
    "\u0301\u0301",
    "e\u0301" * 9,
    "🎉" * 9,
    "👩‍👩‍👧‍👦" * 5,
    "中文" * 30,
    "word " * 99,
    "x" * 500,
    "ﷺ" * 20,
]


@pytest.fixture(scope="module")
def own(minilm):
    return minilm.tokenizer(minilm.resolve("all-MiniLM-L6-v2"))


@pytest.fixture(scope="module")
def openai(data_dir):
    return openai_tokenizer("text-embedding-3-small", cache_dir=data_dir / "tiktoken")


@pytest.mark.parametrize("which", ["own", "openai"])
@pytest.mark.parametrize("text", STRANGE)
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 40])
def test_a_truncated_text_is_a_prefix_and_fits(request, which, text, limit):
    tokenizer = request.getfixturevalue(which)
    cut = tokenizer.truncate(text, limit)
    assert text.startswith(cut)
    assert cut == "" or tokenizer.count([cut])[0] <= limit
    if tokenizer.count([text])[0] <= limit:
        assert cut == text


def test_character_of_several_tokens_is_not_cut_in_two_nor_counted_as_less():
    """A vocabulary of bytes: all tokens of a character end where the character does."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = RawTokenizer(
        models.BPE({byte: index for index, byte in enumerate(alphabet)}, [])
    )
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = ModelTokenizer(raw)
    cuts = [tokenizer.truncate("🎉🎉", limit) for limit in (3, 4, 6, 7, 8)]
    assert cuts == ["", "🎉", "🎉", "🎉", "🎉🎉"]


def test_counts_include_special_tokens_and_ignore_the_files_own_truncation(tmp_path):
    tiny.write_tokenizer(tmp_path)
    tokenizer = ModelTokenizer.from_file(tmp_path / "tokenizer.json")
    assert tokenizer.count(["a", "a b c d e f", ""]) == [3, 8, 2]


def test_counting_before_encoding_changes_no_text_s_ids(tmp_path):
    tiny.write_tokenizer(tmp_path)
    texts = ["a", "b c", "a", "d e f"]
    fresh, counted = (
        ModelTokenizer.from_file(tmp_path / "tokenizer.json") for _ in range(2)
    )
    counted.count(["b c", "d e f"])
    assert [list(ids) for ids in counted.encode(texts)] == [
        list(ids) for ids in fresh.encode(texts)
    ]


def test_long_texts_count_as_the_library_counts_them(own, data_dir, minilm):
    folder = minilm.engine.weights.find(minilm.resolve("all-MiniLM-L6-v2").name).path
    raw = RawTokenizer.from_file(str(folder / "tokenizer.json"))
    raw.no_truncation()
    raw.no_padding()
    source = random.Random(4)
    text = " ".join(
        source.choice(["alpha", "Beta", "été", "中", "!?", "3.14"])
        for _ in range(90_000)
    )
    assert len(text) > _SLICE_CHARACTERS
    assert own.count([text, "short"]) == [
        len(raw.encode(text)),
        len(raw.encode("short")),
    ]
    assert own.count([own.truncate(text, 256)])[0] == 256


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "中" * 300_000, "\u0301" * 300_000, "\n" * 1_000_000]
)
def test_a_million_characters_without_spaces_are_counted(own, openai, text):
    assert own.count([text])[0] >= 2
    assert openai.count([text])[0] > 1


def test_lower_case_is_applied_when_the_model_says_so(tmp_path):
    tiny.write_tokenizer(tmp_path)
    raw = RawTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    raw.normalizer = None
    assert list(ModelTokenizer(raw, lower_case=True).encode(["A"])[0]) == [2, 4, 3]


@pytest.mark.parametrize("token_id", [-1, 30522, 2**31, 2**70])
def test_ids_outside_the_models_vocabulary_are_refused(own, token_id):
    with pytest.raises(ValueError, match="outside"):
        own.decode([2023, token_id])


@pytest.mark.parametrize("token_id", [-1, 100256, 100261, 100277, 2**31, 2**70])
def test_ids_outside_openais_vocabulary_are_refused(openai, token_id):
    with pytest.raises(ValueError, match="outside"):
        openai.decode([1, token_id])


def test_decoding_gives_the_text_back(own, openai):
    assert own.decode([7592, 2088]) == "hello world"
    assert openai.decode([15339, 1917]) == "hello world"


def test_half_a_character_decodes_to_the_replacement_character(openai):
    assert "\ufffd" in openai.decode([9468])


def test_text_that_spells_a_special_token_is_ordinary(openai):
    assert openai.count(["<|endoftext|>"])[0] > 1
    assert openai.truncate("<|endoftext|> and more", 3)


def test_an_unknown_model_gets_the_common_encoding(data_dir, openai):
    assert openai_tokenizer("never-heard-of", cache_dir=data_dir / "tiktoken") is openai


def test_an_absent_vocabulary_is_said_at_once_without_the_network(tmp_path):
    assert "o200k_base" not in _loaded
    with pytest.raises(ProviderMisconfigured, match="o200k_base"):
        openai_tokenizer("gpt-4o", cache_dir=tmp_path)


def test_a_tokenizer_file_that_makes_no_sense_is_misconfigured(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ProviderMisconfigured):
        ModelTokenizer.from_file(tmp_path / "tokenizer.json")
