"""The three wire formats: what to send, how to read the answer. Knows no HTTP.

A format takes the server's address without `/v1`; `base_url` may be given either way.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from providers.remote import (
    Answer,
    BadAnswerError,
    Batch,
    Call,
    Reply,
    field,
    indexed_answer,
    whole_number,
)


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
        body = {
            "model": batch.model.name,
            "input": list(batch.texts),
            "encoding_format": "float",
        }
        return Call(path=self.path, body=body)

    def read(self, reply: Reply) -> Answer:
        return indexed_answer(reply.payload)


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
    "tei": TextEmbeddingsInference,
    "ollama": Ollama,
}
