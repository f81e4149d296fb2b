"""What /openapi.json says beyond the views themselves: errors, answers and headers, each in one place."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    PolymorphicProxySerializer,
)
from rest_framework import serializers

from embeddings.api.exception_handler import Problem
from embeddings.api.requests import STEERING_HEADERS


class ErrorDetailSerializer(serializers.Serializer[Any]):
    message = serializers.CharField()
    type = serializers.CharField()
    param = serializers.CharField(allow_null=True)
    code = serializers.CharField(allow_null=True)


class ErrorSerializer(serializers.Serializer[Any]):
    detail = serializers.CharField()
    error = ErrorDetailSerializer()


class TooLongItemSerializer(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    tokens = serializers.IntegerField()


class InputTooLongSerializer(serializers.Serializer[Any]):
    error = serializers.ChoiceField(["input_too_long"])
    message = serializers.CharField()
    details = TooLongItemSerializer(many=True)


class EmbeddingObjectSerializer(serializers.Serializer[Any]):
    object = serializers.ChoiceField(["embedding"])
    index = serializers.IntegerField()
    embedding = serializers.JSONField(
        help_text="A list of floats, or base64 of little-endian float32."
    )


class UsageSerializer(serializers.Serializer[Any]):
    prompt_tokens = serializers.IntegerField()
    total_tokens = serializers.IntegerField()


class EmbeddingListSerializer(serializers.Serializer[Any]):
    object = serializers.ChoiceField(["list"])
    data = EmbeddingObjectSerializer(many=True)
    model = serializers.CharField()
    usage = UsageSerializer()


class EmbeddingBatchSerializer(serializers.Serializer[Any]):
    embeddings = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField())
    )
    model = serializers.CharField()
    provider = serializers.CharField()
    count = serializers.IntegerField()


ERRORS: dict[int, str] = {
    401: "The key is missing or not valid.",
    403: "The caller, the provider or the model is not allowed.",
    404: "There is no such model.",
    405: "The path does not know this method.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too many requests; `Retry-After` says when to come back.",
    500: "The server failed.",
    502: "The model could not be loaded or fetched.",
    503: "No provider could answer; `Retry-After` says when to come back.",
}
WITH_BODY = (413, 415)


class DocumentedErrors(AutoSchema):
    """Add to every operation the errors it may answer with."""

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        responses = super()._get_response_bodies(direction)
        for status in self._statuses():
            if str(status) not in responses:
                responses[str(status)] = self._get_response_for_code(
                    _error(status), str(status), direction=direction
                )
        return responses

    def _statuses(self) -> list[int]:
        protected = bool(self.view.get_authenticators())
        has_body = self.method in ("POST", "PUT", "PATCH")
        left_out = {
            *(() if protected else (401, 403, 404, 429, 502)),
            *(() if has_body else (*WITH_BODY, 429, 502)),
        }
        return (
            [400, *(status for status in ERRORS if status not in left_out)]
            if protected
            else [400, 405, 500, 503]
        )


def _error(status: int) -> OpenApiResponse:
    if status == 400:
        kinds = PolymorphicProxySerializer(
            component_name="BadRequest",
            serializers=[ErrorSerializer, InputTooLongSerializer],
            resource_type_field_name=None,
        )
        return OpenApiResponse(
            kinds, description="A field or header is wrong; the body names it."
        )
    example = OpenApiExample(
        f"{status}",
        value=Problem(status=status, detail=ERRORS[status].partition(";")[0]).body(),
    )
    return OpenApiResponse(
        ErrorSerializer, description=ERRORS[status], examples=[example]
    )


class ApiKeyScheme(OpenApiAuthenticationExtension):
    """Tell /docs how to send the key."""

    target_class = "embeddings.access.authentication.SingleUserAuthentication"
    name = "X-API-KEY"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
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
