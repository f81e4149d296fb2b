"""What /openapi.json says of every operation alike: its errors, its key, the steering headers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter

from embeddings import headers
from embeddings.access.throttling import LimitedView
from embeddings.api.exception_handler import Error, Problem, TooLong
from embeddings.api.json_types import Schema, plain, schema_of
from embeddings.api.requests import INPUT_TYPE_HEADER, STEERING_HEADERS
from embeddings.conf import conf

Endpoint = tuple[str, str, str, Any]  # path, its pattern, method, view

ERRORS: dict[int, str] = {
    400: "A field or header is wrong; the body names it.",
    401: "The key is missing or not valid.",
    403: "The caller, the provider or the model is not allowed.",
    404: "There is no such thing.",
    405: "The path does not know this method.",
    409: "The request does not fit what is stored, or the model is not set up to serve (`model_not_ready`).",
    413: "The body is too large.",
    415: "The body is not JSON, or compressed otherwise than by gzip or zstd.",
    429: "Too many requests or wrong keys, or a monthly budget is used up; `Retry-After` says when to come back.",
    500: "The server failed.",
    502: "The model could not be loaded or fetched.",
    503: "No provider could answer; `Retry-After` says when to come back.",
}
HEADERS: dict[int, tuple[str, ...]] = {
    401: (headers.CHALLENGE,),
    409: (headers.SHOULD_RETRY,),
    429: (headers.RETRY_AFTER, headers.SHOULD_RETRY),
    503: (headers.RETRY_AFTER,),
}
UNLIMITED = 500  # answered by Django, which knows of no limits
BY_ADDRESS = (401, 429)  # where who fails to authenticate is limited by address
OPEN = (405, 500)  # what a view without a key may answer
WITH_BODY = (413, 415, 502, 503)  # only where there is a body to act on
RARE = (409,)  # only where the view says so, in `more_errors`


class With(NamedTuple):
    """In `responses`: an answer's type, and the headers that it has besides those of all."""

    shape: Any
    headers: tuple[str, ...]


class DocumentedAnswers(AutoSchema):
    """Give every operation its summary, its answers by their types, and the errors it may answer with."""

    def get_summary(self) -> str:
        """Return the first sentence of the view's docstring."""
        first, _, _ = str(self.get_description()).partition("\n")
        return first.partition(". ")[0].rstrip(".")

    def get_tags(self) -> list[str]:
        """Group what lies outside of the API's prefix as operations."""
        inside = self.path.startswith("/api/")
        return list(super().get_tags()) if inside else ["operations"]

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        responses = super()._get_response_bodies(direction)
        return {
            **{str(status): self._error(status) for status in self._statuses()},
            **responses,
        }

    def _get_response_for_code(
        self,
        serializer: Any,
        status_code: Any,
        media_types: Any = None,
        direction: Any = "response",
    ) -> Any:
        answer = serializer if isinstance(serializer, With) else With(serializer, ())
        schema = schema_of(answer.shape)
        response = super()._get_response_for_code(  # type: ignore[no-untyped-call]
            schema, status_code, media_types, direction
        )
        return response | self._headers(int(status_code), answer.headers)

    def _error(self, status: int) -> Schema:
        """Return an OpenAPI response object."""
        sentence = ERRORS[status]
        schemas = [schema_of(one) for one in (Error, TooLong)]
        detail = f"{sentence.partition(';')[0].rstrip('.')}."
        content = {
            "schema": {"oneOf": schemas} if status == 400 else schemas[0],
            "example": plain(Problem(status=status, detail=detail).body()),
        }
        return {
            "description": sentence,
            "content": {"application/json": content},
            **self._headers(status, HEADERS.get(status, ())),
        }

    def _headers(self, status: int, own: tuple[str, ...]) -> Schema:
        names = (headers.REQUEST_ID, *own, *self._limits(status))
        return {"headers": headers.described(*names)}

    def _limits(self, status: int) -> tuple[str, ...]:
        if not isinstance(self.view, LimitedView) or status == UNLIMITED:
            return ()
        requests, tokens = headers.RATE_LIMITS.values()
        if status != 401 and self.view.get_throttles():
            return (*requests, *tokens)
        return requests if status in BY_ADDRESS else ()

    def _statuses(self) -> list[int]:
        if documented := getattr(self.view, "documented_errors", None):
            return list(documented)
        if not self.view.get_authenticators():
            return list(OPEN)
        has_body = self.method in ("POST", "PUT", "PATCH")
        left_out = {*RARE, *(() if has_body else WITH_BODY)}
        left_out -= set(getattr(self.view, "more_errors", ()))
        return [status for status in ERRORS if status not in left_out]


class CallerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Tell /docs how to send the key; in multi-user mode, either of two ways will do."""

    target_class = "embeddings.access.authentication.CallerAuthentication"

    @property
    def name(self) -> list[str]:  # type: ignore[override]
        return ["X-API-KEY", "Bearer"] if _takes_bearer() else ["X-API-KEY"]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        return [{name: []} for name in self.name]

    def get_security_definition(self, auto_schema: Any) -> list[Schema]:
        by_header: Schema = {"type": "apiKey", "in": "header", "name": "X-API-KEY"}
        bearer: Schema = {"type": "http", "scheme": "bearer"}
        if conf().access.multi_user:
            bearer["description"] = "A token, or an API key."
        return [by_header, bearer] if _takes_bearer() else [by_header]


def without_what_is_off(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Leave out of /openapi.json what this server's mode answers with 404."""
    off = []
    if not conf().access.makes_tokens:
        off.append("/api/v1/auth/token")
    if not conf().access.multi_user:
        off.append("/api/v1/auth/")
    return [one for one in endpoints if not one[0].startswith(tuple(off))]


def _takes_bearer() -> bool:
    return conf().access.multi_user or conf().single_user_accept_bearer


STEERING_EXPLAINED = {
    "X-Embeddings-Fallback": (
        "Who may answer where the provider asked for cannot: `any` other of the chain, whose vectors may not be"
        " comparable; only one of the `same_space`; or nobody, `off`."
    ),
    "X-Embeddings-Truncate": "`end`: cut texts that are too long for the model at their end, rather than refuse them.",
    "X-Embeddings-Token-Encoding": (
        "What the numbers of a token array mean: tokens of OpenAI's vocabulary (`openai`) or of the `model`'s own."
    ),
    INPUT_TYPE_HEADER: (
        "What the texts are: `document`s to be found, or the `query` that finds them; some models embed both alike."
    ),
}
STEERING_PARAMETERS = [
    OpenApiParameter(
        "x-provider",
        str,
        OpenApiParameter.HEADER,
        description="Serve by this provider.",
    ),
    *(
        OpenApiParameter(
            name,
            str,
            OpenApiParameter.HEADER,
            enum=(*allowed, ""),
            description=f"{STEERING_EXPLAINED[name]} Empty: as if it was not sent.",
        )
        for name, allowed in STEERING_HEADERS.items()
    ),
]


INPUT_TYPE_PARAMETER = next(
    parameter
    for parameter in STEERING_PARAMETERS
    if parameter.name == INPUT_TYPE_HEADER
)
