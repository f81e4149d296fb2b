"""What /openapi.json says of every operation alike: its errors, its key, the steering headers."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter

from embeddings.api.answers import ERROR, INPUT_TOO_LONG, Schema
from embeddings.api.exception_handler import Problem
from embeddings.api.requests import STEERING_HEADERS

ERRORS: dict[int, str] = {
    400: "A field or header is wrong; the body names it.",
    401: "The key is missing or not valid.",
    403: "The caller, the provider or the model is not allowed.",
    404: "There is no such model.",
    405: "The path does not know this method.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too many requests, or a monthly budget is used up; `Retry-After` says when to come back.",
    500: "The server failed.",
    502: "The model could not be loaded or fetched.",
    503: "No provider could answer; `Retry-After` says when to come back.",
}
OPEN = (405, 500)  # what a view without a key may answer
WITH_BODY = (413, 415, 429, 502, 503)  # only where there is a body to act on


class DocumentedErrors(AutoSchema):
    """Give every operation its summary and the errors it may answer with."""

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
            **{str(status): _documented(status) for status in self._statuses()},
            **responses,
        }

    def _statuses(self) -> list[int]:
        if not self.view.get_authenticators():
            return list(OPEN)
        has_body = self.method in ("POST", "PUT", "PATCH")
        return [status for status in ERRORS if has_body or status not in WITH_BODY]


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Tell /docs how to send the key."""

    target_class = "embeddings.access.authentication.SingleUserAuthentication"
    name = "X-API-KEY"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return {"type": "apiKey", "in": "header", "name": "X-API-KEY"}


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
            enum=allowed,
            description="See docs/api.md.",
        )
        for name, allowed in STEERING_HEADERS.items()
    ),
]


def _documented(status: int) -> Schema:
    """Return an OpenAPI response object."""
    sentence = ERRORS[status]
    schema: Schema = {"oneOf": [ERROR, INPUT_TOO_LONG]} if status == 400 else ERROR
    example = Problem(
        status=status, detail=f"{sentence.partition(';')[0].rstrip('.')}."
    ).body()
    return {
        "description": sentence,
        "content": {"application/json": {"schema": schema, "example": example}},
    }
