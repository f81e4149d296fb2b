"""The only table from error to status. Every body has a plain `detail` and, for SDKs, OpenAI's envelope."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from embeddings.api.json_types import as_json
from embeddings.headers import CHALLENGE, RETRY_AFTER, SHOULD_RETRY
from embeddings.services import errors
from embeddings.services.usage.events import note_error
from providers.exceptions import Abandoned, EngineCrashed, ProviderRejected

PROVIDER_STATUS = {Abandoned: 499, EngineCrashed: 500}  # 499 is nginx's, for its log
DATABASE_RETRY_SECONDS = 5
READ_ONLY_SQLSTATE = "25006"

ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "server_error",
    503: "service_unavailable_error",
}
ERROR_CODES = {
    401: "invalid_api_key",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "request_too_large",
    415: "unsupported_media_type",
    429: "rate_limit_exceeded",
}
SERVICE_STATUS: dict[type[Exception], int] = {
    errors.InvalidRequest: 400,
    errors.ModelNotFound: 404,
    errors.NotAllowed: 403,
    errors.ProviderNotFound: 404,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.ModelNotReady: 409,
    errors.UnsupportedFormat: 415,
    errors.ModelActionFailed: 502,
    errors.BudgetExhausted: 429,
    errors.QuotaExceeded: 403,
    errors.QueueFull: 429,
    errors.Busy: 503,
    errors.ServiceUnavailable: 503,
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as the client will see it."""

    status: int
    detail: str
    param: str | None = None
    code: str | None = None

    def body(self) -> "Error":
        envelope = Envelope(
            message=self.detail,
            type=ERROR_TYPES.get(self.status, "invalid_request_error"),
            param=self.param,
            code=self.code or ERROR_CODES.get(self.status),
        )
        return Error(detail=self.detail, error=envelope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    message: str
    type: str
    param: str | None
    code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    detail: str
    error: Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class LongInput:
    index: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLong:
    error: Literal["input_too_long"] = "input_too_long"
    message: str
    details: list[LongInput]


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer `error`, or return None for one that nobody foresaw (Django logs it and answers 500)."""
    set_rollback()
    if isinstance(error, errors.InputTooLong):
        note_error("input_too_long")
        body = TooLong(
            message=error.message, details=[LongInput(**one) for one in error.details]
        )
        return Response(body, status=status.HTTP_400_BAD_REQUEST)
    if reason := _database_problem(error):
        log.warning("database_unavailable", exc_info=error)
        error = DatabaseUnavailable(reason)
    if isinstance(error, exceptions.UnsupportedMediaType):
        types = [parser.media_type for parser in context["view"].parser_classes]
        error.detail = _wanted_body(types)  # type: ignore[assignment]
    problem = _problem(error)
    if problem is None:
        return None
    answer = problem.body()
    note_error(answer.error.code)
    return Response(answer, status=problem.status, headers=_headers(error))


class DatabaseUnavailable(exceptions.APIException):
    """The database does not take the statement now."""

    status_code = 503
    wait = DATABASE_RETRY_SECONDS


def _database_problem(error: Exception) -> str | None:
    """Return what is wrong with the database where that is why a request failed; None for an error of ours."""
    if not isinstance(error, InterfaceError | InternalError | OperationalError):
        return None
    words = str(error)
    if "full" in words or "No space left" in words:
        return "The disk of the database is full; the operator can make space."
    if "readonly" in words or _sqlstate(error) == READ_ONLY_SQLSTATE:
        return "The database is read-only now; the operator can say why."
    if isinstance(error, InternalError):
        return None
    return "The database is busy or away; try again."


def _sqlstate(error: DatabaseError | InterfaceError) -> str | None:
    return getattr(error.__cause__, "sqlstate", None)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: what is refused before a view is found, such as a foreign Host header."""
    detail = "The request is malformed."
    if type(exception).__name__ == "DisallowedHost":
        detail = "This host name is not served here; the operator can add it to ALLOWED_HOSTS."
    return plain(Problem(status=400, detail=detail))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    return plain(
        Problem(
            status=404,
            detail=f"There is nothing at {request.path}; see {reverse('docs')} for the API.",
        )
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500."""
    return plain(
        Problem(
            status=500,
            detail="The server failed; its log has the details under this X-Request-ID.",
        )
    )


def plain(problem: Problem) -> HttpResponse:
    """Return `problem` outside of REST framework."""
    body = as_json(problem.body())
    return HttpResponse(body, status=problem.status, content_type="application/json")


def _problem(error: Exception) -> Problem | None:
    if isinstance(error, errors.ServiceError):
        return Problem(
            status=SERVICE_STATUS[type(error)],
            detail=error.message,
            param=error.param,
            code=error.code,
        )
    if isinstance(error, ProviderRejected):
        code = "model_not_found" if error.status == status.HTTP_404_NOT_FOUND else None
        return Problem(
            status=error.status, detail=error.message, param=error.param, code=code
        )
    if isinstance(error, Abandoned | EngineCrashed):
        return Problem(status=PROVIDER_STATUS[type(error)], detail=error.message)
    if isinstance(error, exceptions.ValidationError):
        param, detail = _first(error.detail)
        return Problem(status=400, detail=detail, param=param)
    if isinstance(error, Http404):
        return Problem(status=404, detail="There is nothing here.")
    if isinstance(error, PermissionDenied):
        return Problem(status=403, detail="This is not allowed.")
    if isinstance(error, exceptions.APIException):
        return Problem(status=error.status_code, detail=str(error.detail))
    return None


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, errors.ServiceUnavailable | errors.QueueFull | errors.Busy):
        return {RETRY_AFTER: str(error.retry_after_seconds)}
    if isinstance(error, errors.BudgetExhausted):
        # OpenAI's SDKs would ask again at once, twice, since they wait a minute at most.
        renewal = str(error.retry_after_seconds)
        return {RETRY_AFTER: renewal, SHOULD_RETRY: "false"}
    if isinstance(error, errors.ModelNotReady):
        return {SHOULD_RETRY: "false"}  # they ask again on 409, too
    if isinstance(error, exceptions.APIException):
        challenge, wait = (
            getattr(error, "auth_header", None),
            getattr(error, "wait", None),
        )
        return {
            **getattr(error, "headers", {}),
            **({CHALLENGE: challenge} if challenge else {}),
            **({RETRY_AFTER: str(max(1, math.ceil(wait)))} if wait is not None else {}),
        }
    return {}


def _wanted_body(media_types: list[str]) -> str:
    form = " or a form with a file" if "multipart/form-data" in media_types else ""
    return f"The body must be JSON{form}; send it with Content-Type: {' or '.join(media_types)}."


def _first(detail: Any) -> tuple[str | None, str]:
    """Return the place and the sentence of the first validation error; the sentence names the place."""
    if isinstance(detail, dict):
        field, inner = next(iter(detail.items()))
        place, sentence = _first(inner)
        if field == "non_field_errors":
            return place, sentence
        if sentence.startswith((f"{field} ", f"{field}[")):
            return sentence.partition(" ")[0], sentence
        return field, _about(field, sentence)
    if isinstance(detail, list):
        return _first(detail[0])
    return None, str(detail)


def _about(field: str, sentence: str) -> str:
    """Say of which field a sentence speaks: REST framework's own begin with "This field", ours with the verb."""
    if sentence.startswith("This field "):
        return f"{field} {sentence.removeprefix('This field ')}"
    return f"{field} {sentence}" if sentence[:1].islower() else f"{field}: {sentence}"
