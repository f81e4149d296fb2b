import sys
from unittest.mock import Mock

import numpy as np
import pytest

from providers.exceptions import ProviderMisconfigured
from providers.plugins import openai
from providers.plugins.openai import OpenAIProvider
from tests.upstreams import OpenAIUpstream, vectors_for
from tests.upstreams.azure import AzureUpstream

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


@pytest.mark.parametrize(
    ("given", "called"),
    [
        ("{}", "/openai/deployments/our-small.one/embeddings?api-version=2024-10-21"),
        ("{}/", "/openai/deployments/our-small.one/embeddings?api-version=2024-10-21"),
        (
            "{}/openai/?api-version=2023-05-15",
            "/openai/deployments/our-small.one/embeddings?api-version=2023-05-15",
        ),
        ("{}/openai/v1", "/openai/v1/embeddings"),
        ("{}/openai/v1/", "/openai/v1/embeddings"),
        (
            "{}/openai/v1?api-version=preview",
            "/openai/v1/embeddings?api-version=preview",
        ),
    ],
)
def test_address_of_a_resource_at_azure_in_all_its_forms(given, called, embed):
    class Anywhere(AzureUpstream):
        def answer(self, path, headers, body):
            given = {"authorization": f"Bearer {headers['api-key']}"}
            return OpenAIUpstream.answer(self, "/v1/embeddings", given, body)

    with Anywhere() as upstream:
        options = {
            "api_key": upstream.api_key,
            "base_url": given.format(upstream.address),
            "wire": "azure",
        }
        provider = OpenAIProvider(options)
        embed(provider, "our-small.one", ["text"])
        provider.close()
    assert [call.path for call in upstream.calls] == [called]


def test_azure_without_an_address_is_not_set_up():
    provider = OpenAIProvider({"api_key": "k", "wire": "azure"})
    assert provider.configuration_problem() == "OPENAI_BASE_URL is not set"


def test_azure_lists_no_deployments_and_passes_any_sane_name_on():
    provider = OpenAIProvider(
        {"api_key": "k", "wire": "azure", "base_url": "https://us.openai.azure.com"}
    )
    assert list(provider.models()) == []
    small, own = map(provider.resolve, ("text-embedding-3-small", "our-small"))
    assert small is not None
    assert own is not None
    assert (small.dimensions, own.dimensions) == (1536, None)
    assert provider.resolve("../secret?x=1") is None
