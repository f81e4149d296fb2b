"""JSON answers. orjson writes numpy rows directly, each float32 as the shortest decimal that reads back to it."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from rest_framework.renderers import BaseRenderer

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


def rendered(data: Any, *, headers: Mapping[str, str]) -> HttpResponse:
    """Return an answer that is JSON already. REST framework's own Response would render it in five more steps."""
    return HttpResponse(
        as_json(data), content_type=JSONRenderer.media_type, headers=headers
    )
