"""Django's WSGI handler, less what each request would do again or in vain."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.cache import close_caches
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import reset_queries
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch

from embeddings_project.api_middleware import API_PREFIX
from embeddings_project.site import without_prefix


class Handler(WSGIHandler):
    """Remembers where the API's paths lead: to find that out takes a twelfth of a small request."""

    def __init__(self) -> None:
        super().__init__()
        self._prefix = settings.FORCE_SCRIPT_NAME
        self._matches: dict[str, ResolverMatch] = {}
        request_finished.disconnect(close_caches)  # Django's own, used by nothing here
        if not settings.DEBUG:
            request_started.disconnect(reset_queries)  # kept in DEBUG only

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> HttpResponseBase:
        if self._prefix:
            path = environ.get("PATH_INFO", "")
            environ["PATH_INFO"] = without_prefix(path, self._prefix)
        return super().__call__(environ, start_response)

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """Return the view. Only paths without parameters are remembered, so there are no more than the API has."""
        path = request.path_info
        match = self._matches.get(path)
        if match is not None:
            request.resolver_match = match
            return match
        match = super().resolve_request(request)
        if path.startswith(API_PREFIX) and not match.args and not match.kwargs:
            self._matches[path] = match
        return match
