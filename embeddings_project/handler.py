"""The WSGI handler behind a proxy that leaves the prefix of `PUBLIC_URL` in the path, or takes it away."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http.response import HttpResponseBase

from embeddings.fast_path.handler import FastHandler
from embeddings_project.site import without_prefix


class Handler(FastHandler):
    """Serves paths with the prefix and without."""

    def __init__(self) -> None:
        super().__init__()
        self._prefix = settings.FORCE_SCRIPT_NAME

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> HttpResponseBase:
        if self._prefix:
            path = environ.get("PATH_INFO", "")
            environ["PATH_INFO"] = without_prefix(path, self._prefix)
        return super().__call__(environ, start_response)
