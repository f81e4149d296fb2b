"""From a checked body and the steering headers to what the services take."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from django.http.request import HttpHeaders
from rest_framework.request import Request

from embeddings.access.authentication import caller_of
from embeddings.api.serializers import INPUT_TYPES
from embeddings.conf import FallbackMode
from embeddings.services.errors import InvalidRequest
from embeddings.services.types import (
    EmbeddingRequest,
    Input,
    Vocabulary,
)
from providers.base import InputType

INPUT_TYPE_HEADER = "X-Embeddings-Input-Type"
STEERING_HEADERS: Mapping[str, tuple[str, ...]] = {
    "X-Embeddings-Fallback": ("any", "same_space", "off"),
    "X-Embeddings-Truncate": ("end",),
    "X-Embeddings-Token-Encoding": ("openai", "model"),
    INPUT_TYPE_HEADER: (*INPUT_TYPES,),
}
META_NAMES = {HttpHeaders.to_wsgi_name(name): name for name in STEERING_HEADERS}


def embedding_request(
    request: Request,
    body: Mapping[str, Any],
    *,
    inputs: Sequence[Input],
    place: str = "input[{}]",
) -> EmbeddingRequest:
    """Build the services' request from the body and the headers. Raises InvalidRequest."""
    meta = request.META
    headers = _steering(meta)
    return EmbeddingRequest(
        inputs=inputs,
        place=place,
        caller=caller_of(request),
        user=body.get("user"),
        model=body.get("model"),
        provider=_provider(meta, body.get("provider")),
        dimensions=body.get("dimensions"),
        fallback=cast("FallbackMode | None", headers.get("X-Embeddings-Fallback")),
        truncate=headers.get("X-Embeddings-Truncate") == "end",
        vocabulary=cast(
            "Vocabulary", headers.get("X-Embeddings-Token-Encoding") or "openai"
        ),
        input_type=_input_type(headers, body) or "document",
    )


def input_type_of(request: Request, body: Mapping[str, Any]) -> InputType | None:
    """Return what the texts are, by body or header; None if neither says. Raises InvalidRequest if they disagree."""
    key = HttpHeaders.to_wsgi_name(INPUT_TYPE_HEADER)
    sent = {key: request.META[key]} if key in request.META else {}
    return _input_type(_steering(sent), body)


def _input_type(
    headers: Mapping[str, str], body: Mapping[str, Any]
) -> InputType | None:
    given = (headers.get(INPUT_TYPE_HEADER), body.get("input_type"))
    meant = {INPUT_TYPES[spelling] for spelling in given if spelling is not None}
    if len(meant) > 1:
        raise InvalidRequest(
            f"input_type and the header {INPUT_TYPE_HEADER} name two kinds of text; send one.",
            param="input_type",
        )
    return cast("InputType | None", next(iter(meant), None))


def _steering(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the steering headers that were sent. Raises InvalidRequest."""
    given = {}
    for key in META_NAMES.keys() & meta.keys():
        name, value = META_NAMES[key], meta[key].strip().lower()
        if value not in STEERING_HEADERS[name]:
            allowed = " or ".join(STEERING_HEADERS[name])
            raise InvalidRequest(f"{name} must be {allowed}.", param=name)
        given[name] = value
    return given


def _provider(meta: Mapping[str, Any], in_body: str | None) -> str | None:
    """Return the one provider named by body or header. Raises InvalidRequest if they name two."""
    in_header: str | None = meta.get("HTTP_X_PROVIDER")
    if in_body is None or in_header is None:
        return in_header if in_body is None else in_body
    if in_body.strip().lower() != in_header.strip().lower():
        raise InvalidRequest(
            "provider and the header x-provider name two providers; send one.",
            param="provider",
        )
    return in_body
