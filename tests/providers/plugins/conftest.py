import pytest

from tests.upstreams import (
    CohereUpstream,
    CompatibleUpstream,
    GoogleUpstream,
    MistralUpstream,
    OllamaUpstream,
    OpenAIUpstream,
    TeiUpstream,
    VoyageUpstream,
)


def upstream_fixture(kind):
    def upstream():
        with kind() as upstream:
            yield upstream

    return pytest.fixture(upstream)


openai_upstream = upstream_fixture(OpenAIUpstream)
cohere_upstream = upstream_fixture(CohereUpstream)
voyage_upstream = upstream_fixture(VoyageUpstream)
google_upstream = upstream_fixture(GoogleUpstream)
mistral_upstream = upstream_fixture(MistralUpstream)
compatible_upstream = upstream_fixture(CompatibleUpstream)
tei_upstream = upstream_fixture(TeiUpstream)
ollama_upstream = upstream_fixture(OllamaUpstream)


@pytest.fixture
def open_provider():
    """Open a remote provider on an upstream; closed after the test."""
    opened = []

    def open_one(provider, upstream, **options):
        given = {"api_key": upstream.api_key, "base_url": upstream.base_url, **options}
        opened.append(provider.from_settings({"retries": 0, **given}))
        return opened[-1]

    yield open_one
    for provider in opened:
        provider.close()


@pytest.fixture
def embed():
    """Embed with ordinary arguments."""

    def embed(provider, model, texts, *, dimensions=None, input_type="document"):
        return provider.embed(
            provider.resolve(model),
            texts,
            dimensions=dimensions,
            input_type=input_type,
            timeout_seconds=10,
        )

    return embed
