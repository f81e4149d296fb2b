"""The API's way past the middleware of pages.

Sessions, cookies, forms, messages and static files mean nothing to it, and each layer costs its share of every request.
"""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse

from embeddings_project.middleware import Handler

API_PREFIX = "/api/"
HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class ApiMiddleware:
    """Do in one step what an API's request needs of Django's middleware, and go on to its view."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response
        self._view = innermost(get_response)
        self._good_host: str | None = None

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path_info.startswith(API_PREFIX):
            return self.get_response(request)
        request.path_info = request.path_info.rstrip("/")
        self._check_host(request)
        response = self._view(request)
        for name, value in HEADERS.items():
            response.headers[name] = value
        if not response.streaming and not response.has_header("Content-Length"):
            response.headers["Content-Length"] = str(len(response.content))
        return response

    def _check_host(self, request: HttpRequest) -> None:
        """Raise DisallowedHost, unless the last request came with the same Host header."""
        host = request.META.get("HTTP_HOST")
        if host is None or host != self._good_host:
            request.get_host()
            self._good_host = host


def innermost(handler: Any) -> Handler:
    """Return the handler that calls the view, inside of all middleware from `handler` on."""
    while middleware := getattr(handler.__wrapped__, "get_response", None):
        handler = middleware
    return handler  # type: ignore[no-any-return]
