"""The API's way past the middleware of pages.

Sessions, cookies, forms, messages and static files mean nothing to it, and each layer costs its share of every request.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from django.http import HttpRequest, HttpResponse

from embeddings_project import content_policy
from embeddings_project.middleware import Handler

API_PREFIX = "/api/"
MANY_SLASHES = re.compile("/{2,}")
HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    content_policy.HEADER: content_policy.DATA,
}


class ApiMiddleware:
    """Do in one step what an API's request needs of Django's middleware, and go on to its view."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response
        self._view = innermost(get_response)
        self._good_host: str | None = None

    def __call__(self, request: HttpRequest) -> HttpResponse:
        path = single_slashed(request)
        if not path.startswith(API_PREFIX):
            return self.get_response(request)
        request.path_info = path.rstrip("/")
        self._check_host(request)
        drop_empty_headers(request)
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


def single_slashed(request: HttpRequest) -> str:
    """Return the path with several slashes in a row as one: a base URL that ends in one makes them.

    Slashes that were sent encoded are part of a name, and stay; only the path as it was sent tells the two apart.
    """
    path = request.path_info
    if "//" not in path:
        return path
    sent: str | None = request.META.get("RAW_URI")
    if sent is None:
        return MANY_SLASHES.sub("/", path)
    if not sent.startswith("/"):
        sent = "/" + sent.partition("://")[2].partition("/")[2]  # with the host
    sent = MANY_SLASHES.sub("/", sent.partition("?")[0])
    return unquote(sent.removeprefix(request.META.get("SCRIPT_NAME", "")))


def drop_empty_headers(request: HttpRequest) -> None:
    """Take a header without a value for one that was not sent: clients fill templates with nothing."""
    meta = request.META
    for name in [n for n in meta if n.startswith("HTTP_") and not meta[n].strip()]:
        del meta[name]


def innermost(handler: Any) -> Handler:
    """Return the handler that calls the view, inside of all middleware from `handler` on."""
    while middleware := getattr(handler.__wrapped__, "get_response", None):
        handler = middleware
    return handler  # type: ignore[no-any-return]
