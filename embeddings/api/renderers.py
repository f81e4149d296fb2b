"""Answers as JSON, and which renderer is used: JSON whatever a client says it takes, CSV where an endpoint has it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.http import HttpRequest
from django.http.request import MediaType
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from embeddings.api.json_types import as_json


class JSONRenderer(BaseRenderer):
    """Render dataclasses, plain data and numpy arrays. Non-finite numbers must be caught before: orjson writes null."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else as_json(data)


class Negotiation(DefaultContentNegotiation):
    """Never refuses: clients send Accept headers of streams, pages and other APIs, and read the JSON anyway."""

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> Any:
        """Return the renderer and its media type: by `?format=`, else by Accept, else the first."""
        first, *others = renderers
        if others:
            wanted = format_suffix or request.query_params.get("format")
            by_format = [one for one in (first, *others) if one.format == wanted]
            by_accept = _accepted(request._request, (first, *others))
            first = next(iter(by_format), by_accept or first)
        return first, first.media_type


def _accepted(
    request: HttpRequest, renderers: Sequence[BaseRenderer]
) -> BaseRenderer | None:
    """Return what the client likes best, whatever parameters its types have."""
    for accepted in request.accepted_types:
        bare = MediaType(f"{accepted.main_type}/{accepted.sub_type}")
        for renderer in renderers:
            if bare.match(renderer.media_type):
                return renderer
    return None
