"""The models: listed, described, warmed up, downloaded; in this API's own shape and in OpenAI's."""

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.access.callers import caller_of
from embeddings.api import answers
from embeddings.api.representation import (
    downloaded_model,
    model_list,
    openai_model,
    openai_model_list,
    warmed_model,
)
from embeddings.api.representation import model_state as state_of
from embeddings.api.requests import validated
from embeddings.api.serializers import ModelActionSerializer
from embeddings.api.views.administration import AdminView
from embeddings.conf import DEFAULT_LOCAL_MODEL
from embeddings.services import catalog
from embeddings.services.audit import record_api
from providers.operator_settings import operator_settings

LOCAL_MODEL = f"huggingface:{DEFAULT_LOCAL_MODEL}"
MODEL_ID = OpenApiParameter(
    "model_id",
    str,
    OpenApiParameter.PATH,
    description="`model` or `provider:model`.",
    examples=[OpenApiExample("The local model", value=LOCAL_MODEL)],
)
MODEL_ACTION = OpenApiExample(
    "The local model", value={"model": LOCAL_MODEL}, request_only=True
)


class ListModels(APIView):
    """List the known models, with what is allowed and which is the default."""

    @extend_schema(
        operation_id="list_embedding_models", responses={200: answers.MODEL_LIST}
    )
    def get(self, request: Request) -> Response:
        return Response(
            model_list(
                catalog.list_models(caller_of(request)), operator=operator_settings()
            )
        )


class ShowModel(APIView):
    """Describe one model; ids may hold slashes and a provider prefix."""

    @extend_schema(
        operation_id="show_embedding_model",
        parameters=[MODEL_ID],
        responses={200: answers.MODEL_STATE},
    )
    def get(self, request: Request, model_id: str) -> Response:
        return Response(state_of(catalog.model_state(model_id, caller_of(request))))


class WarmUpModel(AdminView):
    """Load a model, so that the next request is fast."""

    needs = "providers.change_modelentry"
    more_errors = (409,)

    @extend_schema(
        operation_id="warm_up_model",
        request=ModelActionSerializer,
        examples=[MODEL_ACTION],
        responses={200: answers.WARMED_MODEL},
    )
    def post(self, request: Request) -> Response:
        body = validated(ModelActionSerializer, request)
        target, seconds = catalog.warm_up(**body, caller=caller_of(request))
        record_api(caller_of(request), "warm up", f"model {target.label}")
        return Response(warmed_model(target, seconds=seconds))


class DownloadModel(AdminView):
    """Fetch and prepare a local model."""

    needs = "providers.change_modelentry"
    more_errors = (409,)

    @extend_schema(
        operation_id="download_model",
        request=ModelActionSerializer,
        examples=[MODEL_ACTION],
        responses={200: answers.DOWNLOADED_MODEL},
    )
    def post(self, request: Request) -> Response:
        provider, download = catalog.download(
            **validated(ModelActionSerializer, request), caller=caller_of(request)
        )
        record_api(
            caller_of(request),
            "download",
            f"model {provider.name}:{download.model.name}",
        )
        return Response(downloaded_model(provider.name, download))


class OpenAIListModels(APIView):
    """List the models in OpenAI's shape, for `client.models.list()`."""

    @extend_schema(
        operation_id="list_models", responses={200: answers.OPENAI_MODEL_LIST}
    )
    def get(self, request: Request) -> Response:
        return Response(openai_model_list(catalog.list_models(caller_of(request))))


class OpenAIShowModel(APIView):
    """Show one model in OpenAI's shape, for `client.models.retrieve(id)`."""

    @extend_schema(
        operation_id="retrieve_model",
        parameters=[MODEL_ID],
        responses={200: answers.OPENAI_MODEL},
    )
    def get(self, request: Request, model_id: str) -> Response:
        return Response(openai_model(catalog.model_state(model_id).target))
