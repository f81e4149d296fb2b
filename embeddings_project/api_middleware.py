"""How the API takes what clients send: paths with slashes too many, headers without a value, the console's cookies."""

import re
from urllib.parse import unquote

from django.http import HttpRequest, HttpResponse

from embeddings.fast_path.middleware import API_PREFIX
from embeddings_project.middleware import Handler

MANY_SLASHES = re.compile("/{2,}")
SLASHLESS_PREFIXES = ("/docs", "/openapi.json", "/healthz", "/readyz", "/metrics")


class ApiMiddleware:
    """Serve paths with and without a slash at the end, without a redirect (which would lose a POST's body), and the
    API's with several slashes in a row, too. For the API, empty headers and cookies are as if they were not sent.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        path = single_slashed(request)
        if path.startswith(API_PREFIX):
            request.path_info = path.rstrip("/")
            request.META.pop("HTTP_COOKIE", None)  # the console's
            drop_empty_headers(request)
        elif request.path_info.startswith(SLASHLESS_PREFIXES):
            request.path_info = request.path_info.rstrip("/")
        return self.get_response(request)


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
    """Take a header without a value for one that was not sent: clients fill templates with nothing. But a request
    without a host is another one than a request for none.
    """
    meta = request.META
    empty = [n for n in meta if n.startswith("HTTP_") and not meta[n].strip()]
    for name in empty:
        if name != "HTTP_HOST":
            del meta[name]
