"""How vectors look on the wire. The only place that writes base64.

Typed dicts, since there can be thousands in an answer: to make and write a dataclass takes ten times as long.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypedDict

from pybase64 import b64encode_as_string

from embeddings.services.types import EmbeddingResult
from providers.base import Vectors

VECTOR = {"type": "array", "items": {"type": "number", "format": "float"}}
BASE64 = {
    "type": "string",
    "format": "byte",
    "description": "little-endian float32, base64",
}


def as_base64(vectors: Vectors) -> list[str]:
    """Return each row, float32 little-endian, as base64."""
    return [
        b64encode_as_string(row)  # several times as fast as Python's own
        for row in vectors.astype("<f4", order="C", copy=False)
    ]


# What `encoding_format` may be: how a vector then looks, and what makes the rows.
ENCODINGS: Mapping[str, tuple[Mapping[str, Any], Callable[[Vectors], list[Any]]]] = {
    "float": (VECTOR, list),
    "base64": (BASE64, as_base64),
}


class Embedding(TypedDict):
    object: Literal["embedding"]
    index: int
    embedding: Annotated[Any, {"oneOf": [schema for schema, _ in ENCODINGS.values()]}]


class TokensUsed(TypedDict):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(TypedDict):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: TokensUsed


class EmbeddingBatch(TypedDict):
    embeddings: list[Annotated[Any, VECTOR]]
    model: str
    provider: str
    count: int


def embedding_list(result: EmbeddingResult, *, encoding_format: str) -> EmbeddingList:
    """Return OpenAI's list object."""
    _, rows_of = ENCODINGS[encoding_format]
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": row}
            for index, row in enumerate(rows_of(result.vectors))
        ],
        "model": result.target.label,
        "usage": {
            "prompt_tokens": result.prompt_tokens,
            "total_tokens": result.prompt_tokens,
        },
    }


def embedding_batch(result: EmbeddingResult) -> EmbeddingBatch:
    """Return the batch endpoint's object."""
    return {
        "embeddings": list(result.vectors),
        "model": result.target.label,
        "provider": result.target.provider.name,
        "count": len(result.vectors),
    }
