"""OpenAI's embeddings API, and the same models at Azure.

Wire: https://platform.openai.com/docs/api-reference/embeddings/create
Models: https://platform.openai.com/docs/guides/embeddings
Azure: https://learn.microsoft.com/azure/ai-foundry/openai/reference
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

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

# The newest that is no preview.
AZURE_VERSION = "2024-10-21"
_DEPLOYMENT = re.compile(r"[A-Za-z0-9][\w.\-]{0,63}", re.ASCII)


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
    """`POST {base}/embeddings`, vectors asked for as base64: a quarter of the bytes.

    With the option `wire` azure the key is in `api-key`, and models are the deployments of a resource, whatever their
    names. Its address is the resource's, with or without `/openai`, and may end in `?api-version=…`; or it ends in
    `/openai/v1`, the newer form, which has deployments in the body and needs no version.
    """

    name = "openai"
    order = 1
    fallback = ("huggingface", "onnx", "local_api")
    key_variable = "OPENAI_API_KEY"
    url_variable = "OPENAI_BASE_URL"
    default_base_url = "https://api.openai.com/v1"
    choices = {"OPENAI_WIRE": ("openai", "azure")}  # noqa: RUF012 -- a table
    plain = True
    largest_batch = 2048
    limits = Limits(max_items=largest_batch, max_tokens=300_000)
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
        data_dir = options.get("data_dir")
        self._vocabularies = None if data_dir is None else Path(data_dir) / "tiktoken"
        self._azure: _Azure | None = None
        if options.get("wire") == "azure":
            self._azure = _Azure.at(options.get("base_url") or "")
            self.base_url = self._azure.base_url

    def headers(self) -> Mapping[str, str]:
        if self._azure is None:
            return super().headers()
        return {"api-key": self.api_key}

    def models(self) -> Iterable[ModelSpec]:
        return () if self._azure else super().models()

    def resolve(self, name: str) -> ModelSpec | None:
        """Return the listed model; at Azure a deployment of any sane name, which may be called like its model."""
        if self._azure is None:
            return super().resolve(name)
        named = next((spec for spec in self.listed if spec.name == name), None)
        if named or not _DEPLOYMENT.fullmatch(name):
            return named
        space = f"{self.name}:{name}"
        return ModelSpec(
            name=name, dimensions=None, max_tokens=None, vector_space=space
        )

    def build(self, batch: Batch) -> Call:
        body: dict[str, Json] = {
            "model": batch.model.name,
            "input": list(batch.texts),
            "encoding_format": "base64",
        }
        if batch.dimensions is not None:
            body["dimensions"] = batch.dimensions
        path = self._azure.path(batch.model.name) if self._azure else "/embeddings"
        return Call(path=path, body=body)

    def read(self, reply: Reply) -> Answer:
        return indexed_answer(reply.payload)

    def tokenizer(self, model: ModelSpec) -> Tokenizer | None:
        """Return tiktoken's encoding of `model`; None without the option `data_dir`."""
        if self._vocabularies is None:
            return None
        return _tokenizer(model.name, self._vocabularies)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Azure:
    """Where a resource's deployments are. `by_path`: the older form."""

    base_url: str
    by_path: bool
    query: str

    @classmethod
    def at(cls, address: str) -> "_Azure":
        base, _, query = address.strip().partition("?")
        base = base.rstrip("/").removesuffix("/embeddings")
        by_path = not base.endswith("/openai/v1")
        if base and by_path and not base.endswith("/openai"):
            base += "/openai"
        if by_path and not query:
            query = f"api-version={AZURE_VERSION}"
        return cls(base_url=base, by_path=by_path, query=query and f"?{query}")

    def path(self, deployment: str) -> str:
        place = f"/deployments/{quote(deployment, safe='')}" if self.by_path else ""
        return f"{place}/embeddings{self.query}"


@cache
def _tokenizer(model_name: str, cache_dir: Path) -> Tokenizer:
    # Imported late: a vocabulary takes tens of megabytes, and not all processes count.
    from providers.engine.openai_tokenizer import openai_tokenizer

    return openai_tokenizer(model_name, cache_dir=cache_dir)
