"""What surrounds every request: its id, its log line, and how its body is read."""

import functools
import logging
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import structlog
from django.core.handlers.wsgi import LimitedStream
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.views.generic import View
from gunicorn.http.errors import ParseException

from embeddings.access.authentication import CALLER
from embeddings.access.client_address import client_ip
from embeddings.fast_path.middleware import API_PREFIX
from embeddings.headers import REQUEST_ID
from embeddings.services.usage.events import Event, opened
from embeddings.services.usage.ledger import usage
from embeddings.services.usage.telemetry import telemetry
from embeddings_project.front.admission import most_bytes
from embeddings_project.logging import id_of, log_event, masked
from providers.waiting import caller_left

Handler = Callable[[HttpRequest], HttpResponse]
TRACE_HEADERS = ("traceparent", "tracestate")
METHODS = {method.upper() for method in View.http_method_names}
PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")

log = logging.getLogger(__name__)


class RequestContextMiddleware:
    """Give each request an id (the client's own `X-Request-ID` if it is sane) and log one line when it is answered."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        request_id = id_of(request.META)
        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        caller_left.set(client_left(request))
        try:
            if request.path_info.startswith(API_PREFIX):
                response = self._recorded(request, request_id)
            else:
                response = self.get_response(request)
            response[REQUEST_ID] = request_id
            log_event(
                log,
                "request_finished",
                request_id=request_id,
                method=request.method,
                path=request.path,
                status=response.status_code,
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
                address=client_ip(request),
                **who_called(request),
            )
        finally:
            # What this thread logs next, such as a request that is not even HTTP, is no part of this request.
            structlog.contextvars.reset_contextvars(**bound)
        return response

    def _recorded(self, request: HttpRequest, request_id: str) -> HttpResponse:
        """Answer, and keep a record of the request."""
        event = Event(request_id=request_id)
        if (sender := telemetry()) is not None:
            event.trace = sender.begun(
                request.method or "", kind="server", headers=trace_headers(request)
            )
            event.trace.root.attributes |= {
                "url.scheme": request.scheme or "",
                "url.path": masked(request.path),
            }
        with opened(event):
            response = self.get_response(request)
        match = request.resolver_match
        event.endpoint = endpoint(request.method or "", match.route if match else "")
        event.caller = request.META.get(CALLER)
        event.status = response.status_code
        usage().record(event)
        return response


def trace_headers(request: HttpRequest) -> dict[str, str]:
    """Return the headers by which a client's trace goes on here."""
    sent = {name: request.META.get(f"HTTP_{name.upper()}") for name in TRACE_HEADERS}
    return {name: value for name, value in sent.items() if value}


@functools.lru_cache(1000)
def endpoint(method: str, route: str) -> str:
    """Return the name under which requests are counted: `GET /api/v1/models/{model_id}`; of no route, its method.

    A method that HTTP does not know is the client's own word.
    """
    known = method if method in METHODS else "other"
    path = PARAMETER.sub(r"{\1}", route)
    return f"{known} /{path}" if route else known


class PageCompressionMiddleware(GZipMiddleware):
    """Compress pages, which are mostly markup; the API's answers are vectors."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if request.path_info.startswith(API_PREFIX):
            return response
        return super().process_response(request, response)


def client_left(request: HttpRequest) -> Callable[[], bool]:
    """Return a function that says whether the client has closed the connection; without a socket, it never has.

    A client that closes only its own half counts as gone, as with most servers and proxies.
    """
    connection: Any = request.META.get("gunicorn.socket")

    def left() -> bool:
        if not isinstance(connection, socket.socket) or connection.fileno() < 0:
            return False
        try:
            return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False  # nothing was sent, and the connection stands
        except ValueError:
            return False  # TLS: its layer can't be looked through
        except OSError:
            return True

    return left


def who_called(request: HttpRequest) -> dict[str, str]:
    """Return the caller's id, and what everyone may see of its key; of a console page its user's, if that is known."""
    caller = request.META.get(CALLER)
    if caller is None:
        user = getattr(request, "_cached_user", None)
        return {"caller": f"user:{user.pk}"} if user and user.pk else {}
    if caller.key_prefix:
        return {"caller": caller.id, "key": caller.key_prefix}
    return {"caller": caller.id}


class RequestBodyMiddleware:
    """Let a chunked body be read, and read a refused request's body to its end, under any server.

    The product's own front brings whole bodies. Elsewhere Django takes a body without Content-Length for empty. And a
    client that is still sending when the connection closes sees a broken pipe in place of the answer.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        limit = most_bytes(request.content_type or "")
        # Only where the server marks the body's end: another one would let us wait for it.
        if is_chunked(request) and request.META.get("wsgi.input_terminated"):
            body = request.META["wsgi.input"]
            # A byte over the limit tells that it was exceeded; any length but 0 makes REST framework look at the body.
            request._stream = ChunkedBody(body, limit + 1)  # type: ignore[assignment]
            request.META["CONTENT_LENGTH"] = str(limit)
            response = self.get_response(request)
            if response.status_code >= 400:
                discard(body, at_most=2 * limit)
            return response
        response = self.get_response(request)
        if response.status_code >= 400 and announced_bytes(request) <= 2 * limit:
            discard(request, at_most=2 * limit)
        return response


class ChunkedBody(LimitedStream):
    """A body of unknown length. One that is malformed fails like one that breaks off: with an OSError."""

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return super().read(-1 if size is None else size)
        except ParseException as error:
            raise OSError("The body's chunks are malformed.") from error


def is_chunked(request: HttpRequest) -> bool:
    encoding: str = request.META.get("HTTP_TRANSFER_ENCODING", "")
    return encoding.strip().lower() == "chunked"


def announced_bytes(request: HttpRequest) -> int:
    value = request.META.get("CONTENT_LENGTH") or ""
    return int(value) if value.isdecimal() else 0


def discard(body: Any, *, at_most: int) -> None:
    """Read on until the body ends, the client is gone or enough was read."""
    try:
        while at_most > 0 and (piece := body.read(2**16)):
            at_most -= len(piece)
    except (OSError, ParseException):
        pass
