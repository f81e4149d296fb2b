"""The API's way past the middleware of pages: sessions, forms, messages and static files mean nothing to it."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost, MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

from embeddings.fast_path import is_on

API_PREFIX = "/api/"
Handler = Callable[[HttpRequest], HttpResponse]
Headers = dict[str, tuple[str, str]]  # as Django keeps them: by name in small letters


class FastPathMiddleware:
    """Go on from here to the API's view. Its answers get what `settings.HEADER_MIDDLEWARE` gives to all."""

    def __init__(self, get_response: Handler) -> None:
        if not is_on():
            raise MiddlewareNotUsed
        self.get_response = get_response
        self._view = innermost(get_response)
        self._headers: dict[tuple[bool, str | None], Headers] = {}
        self._good_host: str | None = None

    def __call__(self, request: HttpRequest) -> HttpResponse:
        is_api = request.path_info.startswith(API_PREFIX)
        if not (is_api and self._is_good_host(request)):
            return self.get_response(request)
        response = self._view(request)
        own: Headers = response.headers._store
        response.headers._store = own = {**self._headers_for(request, own), **own}
        if not response.streaming and "content-length" not in own:
            response.headers["Content-Length"] = str(len(response.content))
        return response

    def _is_good_host(self, request: HttpRequest) -> bool:
        """Whether this host is served here; the last one that was is not checked again."""
        host = request.META.get("HTTP_HOST")
        if host is None or host != self._good_host:
            try:
                request.get_host()
            except DisallowedHost:
                return False
            self._good_host = host
        return True

    def _headers_for(self, request: HttpRequest, own: Headers) -> Headers:
        """Return what the middleware adds to an empty answer of this type, found out once."""
        _, content_type = own.get("content-type", ("", None))
        kind = (request.is_secure(), content_type)
        if kind not in self._headers:
            self._headers[kind] = _added_headers(request, content_type)
        return self._headers[kind]


def _added_headers(request: HttpRequest, content_type: str | None) -> Headers:
    def empty(_: HttpRequest) -> HttpResponse:
        return HttpResponse(content_type=content_type)

    handler = empty
    for path in settings.HEADER_MIDDLEWARE:
        handler = import_string(path)(handler)
    added: Headers = handler(request).headers._store
    del added["content-type"]
    return added


def innermost(handler: Any) -> Handler:
    """Return the handler that calls the view, inside of all middleware from `handler` on."""
    while middleware := getattr(handler.__wrapped__, "get_response", None):
        handler = middleware
    return handler  # type: ignore[no-any-return]
