"""Mistral's embeddings API.

Wire: https://docs.mistral.ai/api/endpoint/embeddings
Models: https://docs.mistral.ai/capabilities/embeddings. The limits per request are
not documented; these stay below what the service is known to refuse.
"""

from providers.base import ModelSpec
from providers.remote import (
    Answer,
    Batch,
    Call,
    Json,
    Limits,
    RemoteProvider,
    Reply,
    indexed_answer,
)


class MistralProvider(RemoteProvider):
    """`POST {base}/v1/embeddings`; the base URL may end in `/v1` already."""

    name = "mistral"
    order = 8
    fallback = ("huggingface", "onnx", "local_api")
    key_variable = "MISTRAL_API_KEY"
    url_variable = "MISTRAL_BASE_URL"
    default_base_url = "https://api.mistral.ai"
    plain = True
    largest_batch = 128
    limits = Limits(max_items=largest_batch, max_tokens=16_000)
    listed = (
        ModelSpec(
            name="mistral-embed",
            dimensions=1024,
            max_tokens=8192,
            vector_space="mistral/mistral-embed",
            aliases=("mistral-embed-2312",),
            price_per_million_tokens=0.10,
        ),
        ModelSpec(
            name="codestral-embed",
            dimensions=1536,
            max_tokens=8192,
            vector_space="mistral/codestral-embed",
            native_dimensions=range(1, 3072 + 1),
            aliases=("codestral-embed-2505",),
            price_per_million_tokens=0.15,
        ),
    )

    def build(self, batch: Batch) -> Call:
        body: dict[str, Json] = {
            "model": batch.model.name,
            "input": list(batch.texts),
            "encoding_format": "float",
        }
        if batch.dimensions is not None:
            body["output_dimension"] = batch.dimensions
        path = "/embeddings" if self.base_url.endswith("/v1") else "/v1/embeddings"
        return Call(path=path, body=body)

    def read(self, reply: Reply) -> Answer:
        return indexed_answer(reply.payload)
