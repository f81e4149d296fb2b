"""OpenAI's embeddings API.

Wire: https://platform.openai.com/docs/api-reference/embeddings/create
Models: https://platform.openai.com/docs/guides/embeddings
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from providers.base import ModelSpec, Tokenizer
from providers.remote import (
    Answer,
    Batch,
    Call,
    Clocks,
    Json,
    Limits,
    RemoteProvider,
    Reply,
    indexed_answer,
)


def _model(name: str, dimensions: int, price: float, **more: Any) -> ModelSpec:
    return ModelSpec(
        name=name,
        dimensions=dimensions,
        max_tokens=8192,
        vector_space=f"openai/{name}",
        price_per_million_tokens=price,
        **more,
    )


class OpenAIProvider(RemoteProvider):
    """`POST {base}/embeddings`, vectors asked for as base64: a quarter of the bytes."""

    name = "openai"
    order = 1
    fallback = ("huggingface", "onnx", "local_api")
    key_variable = "OPENAI_API_KEY"
    url_variable = "OPENAI_BASE_URL"
    default_base_url = "https://api.openai.com/v1"
    plain = True
    limits = Limits(max_items=2048, max_tokens=300_000)
    listed = (
        _model(
            "text-embedding-3-small", 1536, 0.02, native_dimensions=range(1, 1536 + 1)
        ),
        _model(
            "text-embedding-3-large", 3072, 0.13, native_dimensions=range(1, 3072 + 1)
        ),
        _model("text-embedding-ada-002", 1536, 0.10),
    )

    def __init__(
        self, options: Mapping[str, Any], *, clocks: Clocks | None = None
    ) -> None:
        super().__init__(options, clocks=clocks)
        self._data_dir: Path | None = options.get("data_dir")

    def build(self, batch: Batch) -> Call:
        body: dict[str, Json] = {
            "model": batch.model.name,
            "input": list(batch.texts),
            "encoding_format": "base64",
        }
        if batch.dimensions is not None:
            body["dimensions"] = batch.dimensions
        return Call(path="/embeddings", body=body)

    def read(self, reply: Reply) -> Answer:
        return indexed_answer(reply.payload)

    def tokenizer(self, model: ModelSpec) -> Tokenizer | None:
        """Return tiktoken's encoding of `model`; None without the option `data_dir`."""
        if self._data_dir is None:
            return None
        return _tokenizer(model.name, Path(self._data_dir) / "tiktoken")


@cache
def _tokenizer(model_name: str, cache_dir: Path) -> Tokenizer:
    # Imported late: a vocabulary takes tens of megabytes, and not all processes count.
    from providers.engine.openai_tokenizer import openai_tokenizer

    return openai_tokenizer(model_name, cache_dir=cache_dir)
