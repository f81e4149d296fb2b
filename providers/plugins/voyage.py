"""Voyage AI's embeddings API.

Wire and limits: https://docs.voyageai.com/reference/embeddings-api
Models: https://docs.voyageai.com/docs/embeddings
"""

from typing import Any

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

_SIZES = (256, 512, 1024, 2048)

# Tokens that all texts of one request may hold together; 120,000 for the rest.
_REQUEST_TOKENS = {
    "voyage-4-lite": 1_000_000,
    "voyage-3.5-lite": 1_000_000,
    "voyage-4": 320_000,
    "voyage-3.5": 320_000,
    "voyage-2": 320_000,
}


def _model(name: str, dimensions: int, *, space: str = "", **more: Any) -> ModelSpec:
    return ModelSpec(
        name=name,
        dimensions=dimensions,
        vector_space=f"voyage/{space or name}",
        **{"max_tokens": 32_000, **more},
    )


def _flexible(name: str, price: float, *, space: str = "") -> ModelSpec:
    return _model(
        name,
        1024,
        space=space,
        native_dimensions=_SIZES,
        price_per_million_tokens=price,
    )


class VoyageProvider(RemoteProvider):
    """`POST {base}/embeddings`. Over-long texts are refused: `truncation` is false."""

    name = "voyage"
    order = 6
    fallback = ("huggingface", "onnx", "local_api")
    key_variable = "VOYAGE_API_KEY"
    url_variable = "VOYAGE_BASE_URL"
    default_base_url = "https://api.voyageai.com/v1"
    largest_batch = 1000
    limits = Limits(max_items=largest_batch, max_tokens=120_000)
    listed = (
        # One space for the family: https://blog.voyageai.com/2026/01/15/voyage-4
        _flexible("voyage-4-large", 0.12, space="voyage-4"),
        _flexible("voyage-4", 0.06, space="voyage-4"),
        _flexible("voyage-4-lite", 0.02, space="voyage-4"),
        _flexible("voyage-3-large", 0.18),
        _flexible("voyage-3.5", 0.06),
        _flexible("voyage-3.5-lite", 0.02),
        _flexible("voyage-code-3", 0.18),
        _model("voyage-finance-2", 1024, price_per_million_tokens=0.12),
        _model("voyage-law-2", 1024, max_tokens=16_000, price_per_million_tokens=0.12),
        _model("voyage-3", 1024, retired=True),
        _model("voyage-3-lite", 512, retired=True),
        _model("voyage-multilingual-2", 1024, retired=True),
        _model("voyage-code-2", 1536, max_tokens=16_000, retired=True),
        _model("voyage-large-2", 1536, max_tokens=16_000, retired=True),
        _model("voyage-2", 1024, max_tokens=4_000, retired=True),
    )

    def limits_for(self, model: ModelSpec) -> Limits:
        tokens = _REQUEST_TOKENS.get(model.name, self.limits.max_tokens)
        return Limits(max_items=self.limits.max_items, max_tokens=tokens)

    def build(self, batch: Batch) -> Call:
        body: dict[str, Json] = {
            "model": batch.model.name,
            "input": list(batch.texts),
            "input_type": batch.input_type,
            "truncation": False,
            "encoding_format": "base64",
        }
        if batch.dimensions is not None:
            body["output_dimension"] = batch.dimensions
        return Call(path="/embeddings", body=body)

    def read(self, reply: Reply) -> Answer:
        return indexed_answer(reply.payload)
