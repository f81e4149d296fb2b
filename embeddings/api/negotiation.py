"""Which renderer answers: there is one, so the usual Accept headers need no weighing."""

from collections.abc import Iterable
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

ANYTHING = "*/*"


class ShortNegotiation(DefaultContentNegotiation):
    """REST framework's own negotiation, cut short where the client takes anything or names just what it gets."""

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> Any:
        accept = request.META.get("HTTP_ACCEPT", ANYTHING)
        first = next(iter(renderers))
        plain = not (format_suffix or request.META.get("QUERY_STRING"))
        if plain and accept in (ANYTHING, first.media_type):
            return first, first.media_type
        return super().select_renderer(request, renderers, format_suffix)
