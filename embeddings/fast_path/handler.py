"""Django's WSGI handler, less what each request would do again or in vain."""

from django.conf import settings
from django.core.cache import close_caches
from django.core.handlers.base import reset_urlconf
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries
from django.http import HttpRequest
from django.urls import ResolverMatch

from embeddings.fast_path import is_on
from embeddings.fast_path.middleware import API_PREFIX


class FastHandler(WSGIHandler):
    """Remembers where the API's paths lead: to find that out takes a twelfth of a small request."""

    def __init__(self) -> None:
        super().__init__()
        self._matches: dict[str, ResolverMatch] = {}
        self._remembers = is_on()
        if self._remembers:
            request_finished.disconnect(close_caches)  # used by nothing here
            # Both are done as each request begins, too.
            request_finished.disconnect(reset_urlconf)
            request_finished.disconnect(close_old_connections)
            if not settings.DEBUG:
                request_started.disconnect(reset_queries)  # kept in DEBUG only

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """Return the view. Only paths without parameters are remembered, so there are no more than the API has."""
        path = request.path_info
        match = self._matches.get(path)
        if match is not None:
            request.resolver_match = match
            return match
        match = super().resolve_request(request)
        is_plain = not match.args and not match.kwargs
        if self._remembers and is_plain and path.startswith(API_PREFIX):
            self._matches[path] = match
        return match
