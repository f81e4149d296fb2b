"""From a checked body and the steering headers to what the services take."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, cast

from django.http.request import HttpHeaders
from rest_framework import serializers
from rest_framework.request import Request

from embeddings.access.callers import caller_of
from embeddings.api.parsers import JSONParser
from embeddings.conf import FallbackMode
from embeddings.services.errors import InvalidRequest
from embeddings.services.types import (
    EmbeddingRequest,
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
# Django's names of them: request.headers would build a mapping of all headers first.
META_NAMES = {HttpHeaders.to_wsgi_name(name): name for name in STEERING_HEADERS}


def validated(
    serializer_class: type[serializers.Serializer[Any]], request: Request
) -> dict[str, Any]:
    """Return the checked body. Raises ValidationError, ParseError, UnsupportedMediaType."""
    checked: dict[str, Any] = _serializer(serializer_class).run_validation(
        _body(request)
    )
    return checked


def _body(request: Request) -> Any:
    """Return `request.data`, without REST framework's search for a parser where the body says that it is JSON."""
    parser, stream = next(iter(request.parsers or ()), None), request.stream
    if (
        stream is not None
        and isinstance(parser, JSONParser)
        and request._request.content_type == JSONParser.media_type
    ):
        return parser.parse(stream, parser_context={"request": request})
    return request.data


@functools.cache
def _serializer(
    serializer_class: type[serializers.Serializer[Any]],
) -> serializers.Serializer[Any]:
    """Return the one instance: to copy all fields takes most of a validation, and none of them keeps anything."""
    return serializer_class(data={})


def embedding_request(
    request: Request,
    body: Mapping[str, Any],
    *,
    inputs: Sequence[Input],
    place: str = "input[{}]",
) -> EmbeddingRequest:
    """Build the services' request from the body and the headers. Raises InvalidRequest."""
    headers = _steering(request.META)
    return EmbeddingRequest(
        inputs=inputs,
        place=place,
        caller=caller_of(request),
        user=body.get("user"),
        model=body.get("model"),
        provider=_provider(request, body.get("provider")),
        dimensions=body.get("dimensions"),
        fallback=cast("FallbackMode | None", headers.get("X-Embeddings-Fallback")),
        truncate=headers.get("X-Embeddings-Truncate") == "end",
        vocabulary=cast(
            "Vocabulary", headers.get("X-Embeddings-Token-Encoding") or "openai"
        ),
        input_type=cast(
            "InputType", headers.get("X-Embeddings-Input-Type") or "document"
        ),
    )


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


def _provider(request: Request, in_body: str | None) -> str | None:
    """Return the one provider named by body or header. Raises InvalidRequest if they name two."""
    in_header: str | None = request.META.get("HTTP_X_PROVIDER")
    if in_body is None or in_header is None:
        return in_header if in_body is None else in_body
    if in_body.strip().lower() != in_header.strip().lower():
        raise InvalidRequest(
            "provider and the header x-provider name two providers; send one.",
            param="provider",
        )
    return in_body
