"""Cohere's embed API, version 2.

Wire: https://docs.cohere.com/reference/embed (at most 96 texts per call)
Models: https://docs.cohere.com/docs/cohere-embed, retired ones:
https://docs.cohere.com/docs/deprecations
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
    field,
    whole_number,
)

_INPUT_TYPES = {"query": "search_query", "document": "search_document"}
_V4_SIZES = (256, 512, 1024, 1536)
_V5_SIZES = (256, 512, 768, 1024, 1536, 2048)


def _model(name: str, dimensions: int, *, space: str = "", **more: Any) -> ModelSpec:
    return ModelSpec(
        name=name,
        dimensions=dimensions,
        vector_space=f"cohere/{space or name}",
        **{"max_tokens": 512, "price_per_million_tokens": 0.10, **more},
    )


class CohereProvider(RemoteProvider):
    """`POST {base}/v2/embed`. Over-long texts are refused, as `truncate` is NONE."""

    name = "cohere"
    order = 5
    fallback = ("huggingface", "onnx", "local_api")
    key_variable = "COHERE_API_KEY"
    url_variable = "COHERE_BASE_URL"
    default_base_url = "https://api.cohere.com"
    largest_batch = 96
    limits = Limits(max_items=largest_batch)
    listed = (
        # Pro and Fast share one space: https://docs.cohere.com/changelog/embed-v5
        _model(
            "embed-v5.0-pro",
            2048,
            space="embed-v5.0",
            max_tokens=128_000,
            native_dimensions=_V5_SIZES,
            price_per_million_tokens=0.12,
        ),
        _model(
            "embed-v5.0-fast",
            2048,
            space="embed-v5.0",
            max_tokens=128_000,
            native_dimensions=_V5_SIZES,
            price_per_million_tokens=0.08,
        ),
        _model(
            "embed-v4.0",
            1536,
            max_tokens=128_000,
            native_dimensions=_V4_SIZES,
            price_per_million_tokens=0.12,
        ),
        _model("embed-english-v3.0", 1024),
        _model("embed-multilingual-v3.0", 1024),
        _model("embed-english-light-v3.0", 384),
        _model("embed-multilingual-light-v3.0", 384),
        _model("embed-english-v2.0", 4096, retired=True),
        _model("embed-english-light-v2.0", 1024, retired=True),
        _model("embed-multilingual-v2.0", 768, max_tokens=256, retired=True),
    )

    def build(self, batch: Batch) -> Call:
        body: dict[str, Json] = {
            "model": batch.model.name,
            "texts": list(batch.texts),
            "input_type": _INPUT_TYPES[batch.input_type],
            "embedding_types": ["float"],
            "truncate": "NONE",
        }
        if batch.dimensions is not None:
            body["output_dimension"] = batch.dimensions
        return Call(path="/v2/embed", body=body)

    def read(self, reply: Reply) -> Answer:
        rows = field(reply.payload, "embeddings", "float", kind=list)
        meta = reply.payload.get("meta")
        billed = meta.get("billed_units") if isinstance(meta, dict) else None
        tokens = billed.get("input_tokens") if isinstance(billed, dict) else None
        return Answer(rows=rows, prompt_tokens=whole_number(tokens))
