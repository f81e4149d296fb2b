"""From a checked body and the steering headers to what the services take."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from rest_framework import serializers
from rest_framework.request import Request

from embeddings.access.callers import caller_of
from embeddings.services.errors import InvalidRequest
from embeddings.services.types import (
    EmbeddingRequest,
    FallbackMode,
    Input,
    Vocabulary,
)
from providers.base import InputType

STEERING_HEADERS: Mapping[str, tuple[str, ...]] = {
    "X-Embeddings-Fallback": ("any", "same_space", "off"),
    "X-Embeddings-Truncate": ("end",),
    "X-Embeddings-Token-Encoding": ("openai", "model"),
    "X-Embeddings-Input-Type": ("query", "document"),
}


def validated(
    serializer_class: type[serializers.Serializer[Any]], request: Request
) -> dict[str, Any]:
    """Return the checked body. Raises ValidationError, ParseError, UnsupportedMediaType."""
    serializer = serializer_class(data=request.data)
    serializer.is_valid(raise_exception=True)
    return cast(dict[str, Any], serializer.validated_data)


def embedding_request(
    request: Request, body: Mapping[str, Any], *, inputs: Sequence[Input]
) -> EmbeddingRequest:
    """Build the services' request from the body and the headers. Raises InvalidRequest."""
    headers = {
        name: _steering(request, name, allowed)
        for name, allowed in STEERING_HEADERS.items()
    }
    return EmbeddingRequest(
        inputs=inputs,
        caller=caller_of(request),
        user=body.get("user"),
        model=body.get("model"),
        provider=_provider(request, body.get("provider")),
        dimensions=body.get("dimensions"),
        fallback=cast(FallbackMode | None, headers["X-Embeddings-Fallback"]),
        truncate=headers["X-Embeddings-Truncate"] == "end",
        vocabulary=cast(Vocabulary, headers["X-Embeddings-Token-Encoding"] or "openai"),
        input_type=cast(InputType, headers["X-Embeddings-Input-Type"] or "document"),
    )


def _steering(request: Request, name: str, allowed: tuple[str, ...]) -> str | None:
    value = request.headers.get(name)
    if value is None:
        return None
    if value.strip().lower() not in allowed:
        raise InvalidRequest(f"{name} must be {' or '.join(allowed)}.", param=name)
    return value.strip().lower()


def _provider(request: Request, in_body: str | None) -> str | None:
    """Return the one provider named by body or header. Raises InvalidRequest if they name two."""
    in_header: str | None = request.headers.get("x-provider")
    if in_body is None or in_header is None:
        return in_header if in_body is None else in_body
    if in_body.strip().lower() != in_header.strip().lower():
        raise InvalidRequest(
            "provider and the header x-provider name two providers; send one.",
            param="provider",
        )
    return in_body
