"""What surrounds every request: its id, its log line, and paths that may end in a slash or not."""

import re
import time
import uuid
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse

Handler = Callable[[HttpRequest], HttpResponse]

SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
SLASHLESS_PREFIXES = (
    "/api/",
    "/docs",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
)

log = structlog.get_logger(__name__)


class RequestContextMiddleware:
    """Give each request an id (the client's own `X-Request-ID` if it is sane) and log one line when it is answered."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        request_id = given if SANE_ID.fullmatch(given) else uuid.uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        log.info(
            "request_finished",
            method=request.method,
            path=request.path,
            status=response.status_code,
            duration_ms=round((time.perf_counter() - started) * 1000, 1),
        )
        return response


class OptionalTrailingSlashMiddleware:
    """Serve the API's paths with and without a trailing slash, without a redirect (which would lose a POST's body)."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info.startswith(
            SLASHLESS_PREFIXES
        ) and request.path_info.endswith("/"):
            request.path_info = request.path_info.rstrip("/")
        return self.get_response(request)
