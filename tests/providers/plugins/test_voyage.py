import pytest

from providers.plugins.voyage import VoyageProvider


def test_request_has_voyage_s_form(open_provider, voyage_upstream, embed):
    provider = open_provider(VoyageProvider, voyage_upstream)

    embed(provider, "voyage-4", ["text"], dimensions=256, input_type="query")

    (call,) = voyage_upstream.calls
    assert call.path == "/v1/embeddings"
    assert call.body == {
        "model": "voyage-4",
        "input": ["text"],
        "input_type": "query",
        "truncation": False,
        "encoding_format": "base64",
        "output_dimension": 256,
    }


# 24 texts, each guessed at 32,000 tokens (its model's limit) from its bytes.
@pytest.mark.parametrize(
    ("model", "calls"),
    [("voyage-4-large", 8), ("voyage-4", 3), ("voyage-4-lite", 1)],
)
def test_each_model_has_its_own_token_cap(
    open_provider, voyage_upstream, embed, model, calls
):
    provider = open_provider(VoyageProvider, voyage_upstream)

    embed(provider, model, ["word " * 16_000] * 24)

    assert len(voyage_upstream.calls) == calls
