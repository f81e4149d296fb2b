"""The smallest remote provider, for tests of what all of them share."""

from providers.base import ModelSpec
from providers.remote import Call, Clocks, Limits, RemoteProvider, indexed_answer

MODEL = ModelSpec(
    name="text-embedding-ada-002",
    dimensions=1536,
    max_tokens=8192,
    vector_space="echo/ada",
)


class EchoProvider(RemoteProvider):
    """Speaks to the OpenAI stub, three texts a request."""

    name = "echo"
    pauses: list[float]
    key_variable = "ECHO_API_KEY"
    url_variable = "ECHO_BASE_URL"
    limits = Limits(max_items=3)
    listed = (MODEL,)

    def build(self, batch):
        body = {"model": batch.model.name, "input": list(batch.texts)}
        return Call(path="/embeddings", body=body)

    def read(self, reply):
        return indexed_answer(reply.payload)


def echo(upstream, **options):
    """Return an EchoProvider on `upstream`; its pauses are listed, not slept."""
    pauses: list[float] = []
    given = {"api_key": upstream.api_key, "base_url": upstream.base_url, **options}
    provider = EchoProvider(
        given, clocks=Clocks(sleep=pauses.append, random=lambda: 1.0)
    )
    provider.pauses = pauses
    return provider


def embed(provider, texts, *, model=MODEL, timeout_seconds=5.0):
    """Embed with ordinary arguments."""
    return provider.embed(
        model,
        texts,
        dimensions=None,
        input_type="document",
        timeout_seconds=timeout_seconds,
    )
