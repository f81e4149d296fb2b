import sys
from unittest.mock import Mock

import numpy as np
import pytest

from providers.exceptions import ProviderMisconfigured
from providers.plugins import openai
from providers.plugins.openai import OpenAIProvider
from tests.upstreams import vectors_for

MODEL = "text-embedding-ada-002"


@pytest.fixture
def tokenizer_module(monkeypatch):
    """A fake of the engine's tokenizers: one token a word."""

    class Words:
        def count(self, texts):
            return [len(text.split()) for text in texts]

    module = Mock(openai_tokenizer=Mock(return_value=Words()))
    monkeypatch.setitem(sys.modules, "providers.engine.openai_tokenizer", module)
    openai._tokenizer.cache_clear()
    yield module
    openai._tokenizer.cache_clear()


def test_base64_is_asked_for(open_provider, openai_upstream, embed):
    embed(open_provider(OpenAIProvider, openai_upstream), MODEL, ["text"])

    (call,) = openai_upstream.calls
    assert call.body == {
        "model": MODEL,
        "input": ["text"],
        "encoding_format": "base64",
    }


def test_lists_of_floats_are_taken_as_well(
    open_provider, openai_upstream, embed, monkeypatch
):
    render = openai_upstream.render

    def as_floats(rows, indexes, context):
        return render(vectors_for(["text"], 1536).tolist(), indexes, context)

    monkeypatch.setattr(openai_upstream, "render", as_floats)

    embedded = embed(open_provider(OpenAIProvider, openai_upstream), MODEL, ["text"])

    np.testing.assert_array_equal(embedded.vectors, vectors_for(["text"], 1536))


def test_more_than_2048_texts_are_split(open_provider, openai_upstream, embed):
    texts = [f"t{n}" for n in range(2050)]

    embedded = embed(open_provider(OpenAIProvider, openai_upstream), MODEL, texts)

    assert len(embedded.vectors) == 2050
    sizes = sorted(len(call.body["input"]) for call in openai_upstream.calls)
    assert sizes == [2, 2048]


def test_tokens_over_300_000_are_split_by_the_models_own_count(
    open_provider, openai_upstream, embed, tokenizer_module, tmp_path
):
    texts = ["word " * 8000] * 50
    provider = open_provider(OpenAIProvider, openai_upstream, data_dir=tmp_path)

    embedded = embed(provider, MODEL, texts)

    assert embedded.prompt_tokens == 400_000
    sizes = sorted(len(call.body["input"]) for call in openai_upstream.calls)
    assert sizes == [13, 37]
    tokenizer_module.openai_tokenizer.assert_called_once_with(
        MODEL, cache_dir=tmp_path / "tiktoken"
    )


def test_tokens_over_300_000_are_split_by_a_guess_without_a_tokenizer(
    open_provider, openai_upstream, embed
):
    texts = ["word " * 8000] * 50

    embedded = embed(open_provider(OpenAIProvider, openai_upstream), MODEL, texts)

    assert len(embedded.vectors) == 50
    assert len(openai_upstream.calls) == 2


def test_missing_vocabulary_does_not_fail_the_request(
    open_provider, openai_upstream, embed, tokenizer_module, tmp_path
):
    failure = ProviderMisconfigured("no vocabulary")
    tokenizer_module.openai_tokenizer.side_effect = failure
    provider = open_provider(OpenAIProvider, openai_upstream, data_dir=tmp_path)

    assert len(embed(provider, MODEL, ["word " * 8000] * 50).vectors) == 50


def test_no_data_dir_means_no_tokenizer():
    assert OpenAIProvider({}).tokenizer(OpenAIProvider.listed[0]) is None
