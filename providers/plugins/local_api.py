"""A server of the operator's own, or a service that speaks like one: OpenAI-compatible, TEI, Ollama.

A wire format says what to send and how to read the answer. All but `openai-exact` take the server's address without
`/v1`; `base_url` may be given either way.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from providers.base import ModelSpec
from providers.remote import (
    Answer,
    BadAnswerError,
    Batch,
    Call,
    Clocks,
    Json,
    Limits,
    RemoteProvider,
    Reply,
    field,
    indexed_answer,
    whole_number,
)

# Cloudflare's begin with an @.
_MODEL_NAME = re.compile(r"[A-Za-z0-9@][\w.:/@+\-]{0,199}", re.ASCII)


class WireFormat(ABC):
    """One kind of server."""

    path: ClassVar[str]

    @abstractmethod
    def build(self, batch: Batch) -> Call:
        """Return the request for `batch`."""

    @abstractmethod
    def read(self, reply: Reply) -> Answer:
        """Return what a 200 answer holds. Raises BadAnswerError."""


class OpenAICompatible(WireFormat):
    """`POST /v1/embeddings`; floats, since not every server knows base64."""

    path = "/v1/embeddings"

    def build(self, batch: Batch) -> Call:
        body: dict[str, Json] = {
            "model": batch.model.name,
            "input": list(batch.texts),
            "encoding_format": "float",
        }
        if batch.dimensions is not None:
            body["dimensions"] = batch.dimensions
        return Call(path=self.path, body=body)

    def read(self, reply: Reply) -> Answer:
        return indexed_answer(reply.payload)


class OpenAIExactly(OpenAICompatible):
    """`POST {base}/embeddings`, whatever the address ends in: services do not all end in `/v1`."""

    path = "/embeddings"


class TextEmbeddingsInference(WireFormat):
    """`POST /embed`: https://huggingface.github.io/text-embeddings-inference/

    It serves one model, so that requests name none. Tokens come in a header.
    """

    path = "/embed"

    def build(self, batch: Batch) -> Call:
        return Call(
            path=self.path, body={"inputs": list(batch.texts), "truncate": False}
        )

    def read(self, reply: Reply) -> Answer:
        if not isinstance(reply.payload, list):
            raise BadAnswerError("answered without a list of vectors")
        tokens = reply.headers.get("x-compute-tokens", "")
        known = int(tokens) if tokens.isdecimal() and len(tokens) < 16 else None
        return Answer(rows=reply.payload, prompt_tokens=known)


class Ollama(WireFormat):
    """`POST /api/embed`: https://docs.ollama.com/api/embed"""

    path = "/api/embed"

    def build(self, batch: Batch) -> Call:
        body = {
            "model": batch.model.name,
            "input": list(batch.texts),
            "truncate": False,
        }
        return Call(path=self.path, body=body)

    def read(self, reply: Reply) -> Answer:
        rows = field(reply.payload, "embeddings", kind=list)
        tokens = whole_number(reply.payload.get("prompt_eval_count"))
        return Answer(rows=rows, prompt_tokens=tokens)


FORMATS: dict[str, type[WireFormat]] = {
    "openai": OpenAICompatible,
    "openai-exact": OpenAIExactly,
    "tei": TextEmbeddingsInference,
    "ollama": Ollama,
}


class LocalApiProvider(RemoteProvider):
    """Options beside the common ones: `kind`, one of `FORMATS`, openai by default.

    32 texts a request, unless operators say more, as text-embeddings-inference refuses
    more by default, also on its `/v1`; the others lose nothing by it.
    """

    name = "local_api"
    order = 4
    fallback = ("huggingface",)
    key_variable = "LOCAL_API_KEY"
    url_variable = "LOCAL_API_URL"
    choices = {  # noqa: RUF012 -- a table
        "LOCAL_API_KIND": ("openai", "openai-exact", "tei", "ollama")
    }
    plain = True
    key_required = False
    largest_batch = 2048
    limits = Limits(max_items=32)
    parallel_requests = 2

    def __init__(
        self, options: Mapping[str, Any], *, clocks: Clocks | None = None
    ) -> None:
        super().__init__(options, clocks=clocks)
        kind = options.get("kind") or "openai"
        if kind != "openai-exact":
            self.base_url = self.base_url.removesuffix("/v1")
        if kind not in FORMATS:
            raise ValueError(f"LOCAL_API_KIND must be one of {', '.join(FORMATS)}")
        self._format = FORMATS[kind]()

    def build(self, batch: Batch) -> Call:
        return self._format.build(batch)

    def read(self, reply: Reply) -> Answer:
        return self._format.read(reply)

    def resolve(self, name: str) -> ModelSpec | None:
        """Return a model of any sane name; its size shows with the first answer."""
        if not _MODEL_NAME.fullmatch(name):
            return None
        return ModelSpec(
            name=name,
            dimensions=None,
            max_tokens=None,
            vector_space=f"local_api/{name}",
        )
