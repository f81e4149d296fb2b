"""The stubs against clients that are not ours: else both could be wrong together."""

import numpy as np
import pytest

from tests.upstreams import OpenAIUpstream, vectors_for


@pytest.fixture(scope="module")
def openai():
    """OpenAI's own package, which takes seconds to import."""
    import openai

    return openai


@pytest.fixture
def client(openai):
    with (
        OpenAIUpstream() as upstream,
        openai.OpenAI(
            api_key=upstream.api_key, base_url=upstream.base_url, max_retries=0
        ) as client,
    ):
        yield client


def test_openai_s_own_client_understands_the_stub(client):
    answer = client.embeddings.create(
        model="text-embedding-3-small", input=["one", "two"], dimensions=8
    )

    vectors = np.array([item.embedding for item in answer.data], np.float32)
    np.testing.assert_array_equal(vectors, vectors_for(["one", "two"], 8))
    assert answer.usage.prompt_tokens == 2


def test_openai_s_own_client_understands_the_stub_s_errors(openai, client):
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.embeddings.create(model="text-embedding-9", input="text")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").embeddings.create(
            model="text-embedding-3-small", input="text"
        )
