import pytest

from providers.plugins.mistral import MistralProvider


def test_request_has_mistral_s_form(open_provider, mistral_upstream, embed):
    provider = open_provider(MistralProvider, mistral_upstream)

    embed(provider, "codestral-embed-2505", ["text"], dimensions=3072)

    (call,) = mistral_upstream.calls
    assert call.body == {
        "model": "codestral-embed",
        "input": ["text"],
        "encoding_format": "float",
        "output_dimension": 3072,
    }


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_address_may_end_in_v1(open_provider, mistral_upstream, embed, suffix):
    address = mistral_upstream.base_url + suffix
    provider = open_provider(MistralProvider, mistral_upstream, base_url=address)

    embed(provider, "mistral-embed", ["text"])

    assert mistral_upstream.calls[0].path == "/v1/embeddings"


def test_requests_stay_below_16_000_tokens(open_provider, mistral_upstream, embed):
    provider = open_provider(MistralProvider, mistral_upstream)

    embed(provider, "mistral-embed", ["word " * 2000] * 10)

    assert len(mistral_upstream.calls) == 4
