"""The models: listed, described, warmed up, downloaded; in this API's own shape and in OpenAI's."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypedDict

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.access.authentication import caller_of
from embeddings.api.json_types import filled
from embeddings.api.serializers import ModelActionSerializer
from embeddings.api.views.administration import AdminView
from embeddings.conf import DEFAULT_LOCAL_MODEL
from embeddings.fast_path.rest_framework import validated
from embeddings.services import catalog, model_actions
from embeddings.services.action_records import Kind, State
from embeddings.services.audit import record_api
from embeddings.services.types import Target
from providers import base
from providers.base import Precision
from providers.models import written_sizes
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


class Names(TypedDict):
    provider: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    provider: str
    model: str
    allowed: bool
    default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelList:
    """An allowlist that allows everything is null."""

    data: list[ListedModel]
    allowed_providers: list[str] | None
    allowed_models: list[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    query: str
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What the makers of a local model say of it; null where this server does not know it."""

    parameters: int
    licence: str | None
    languages: str
    pooling: str
    gated: bool
    matryoshka: list[int] | Sizes | None
    prompts: Prompts
    download_bytes: int
    disk_bytes: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelActionState:
    """The last download or warm-up of a model. `lost`: its process ended before it was done."""

    kind: Kind
    state: State
    stage: str
    done_bytes: int
    total_bytes: int | None
    error: str | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    provider: str
    model: str
    dimensions: int | None
    max_tokens: int | None
    allowed: bool
    default: bool
    loaded: bool | None
    downloaded: bool | None
    vector_space: str
    native_dimensions: list[int] | Sizes | None
    runtime: str | None
    device: str | None
    verified: Literal["reference", "self"] | None
    precision: Precision | None
    method: str | None
    prompts: Prompts
    recommended_prompts: Prompts | None
    card: ModelCard | None
    drifted: bool
    memory_bytes: int | None
    needs_torch: str | None
    problem: str | None
    action: ModelActionState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmedModel:
    status: Literal["ok"] = "ok"
    provider: str
    model: str
    warmed: bool = True
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadedModel:
    status: Literal["ok"] = "ok"
    provider: str
    model: str
    downloaded: bool = True
    path: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIModel:
    """OpenAI's; `created` is not known for models we did not make."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIModelList:
    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class ListModels(APIView):
    """List the known models, with what is allowed and which is the default."""

    @extend_schema(operation_id="list_embedding_models", responses={200: ModelList})
    def get(self, request: Request) -> Response:
        models = [
            ListedModel(
                **_names(listed.target), allowed=listed.allowed, default=listed.default
            )
            for listed in catalog.list_models(caller_of(request))
        ]
        operator = operator_settings()
        return Response(
            ModelList(
                data=models,
                allowed_providers=list(operator.allowed_providers) or None,
                allowed_models=list(operator.allowed_models) or None,
            )
        )


class ShowModel(APIView):
    """Describe one model; ids may hold slashes and a provider prefix."""

    @extend_schema(
        operation_id="show_embedding_model",
        parameters=[MODEL_ID],
        responses={200: ModelState},
    )
    def get(self, request: Request, model_id: str) -> Response:
        return Response(_described(catalog.model_state(model_id, caller_of(request))))


class WarmUpModel(AdminView):
    """Load a model, so that the next request is fast."""

    needs = "providers.change_modelentry"
    more_errors = (409,)

    @extend_schema(
        operation_id="warm_up_model",
        request=ModelActionSerializer,
        examples=[MODEL_ACTION],
        responses={200: WarmedModel},
    )
    def post(self, request: Request) -> Response:
        body = validated(ModelActionSerializer, request)
        target, seconds = model_actions.warm_up(**body, caller=caller_of(request))
        record_api(caller_of(request), "warm up", f"model {target.label}")
        return Response(WarmedModel(**_names(target), seconds=round(seconds, 3)))


class DownloadModel(AdminView):
    """Fetch and prepare a local model."""

    needs = "providers.change_modelentry"
    more_errors = (409,)

    @extend_schema(
        operation_id="download_model",
        request=ModelActionSerializer,
        examples=[MODEL_ACTION],
        responses={200: DownloadedModel},
    )
    def post(self, request: Request) -> Response:
        provider, download = model_actions.download(
            **validated(ModelActionSerializer, request), caller=caller_of(request)
        )
        record_api(
            caller_of(request),
            "download",
            f"model {provider.name}:{download.model.name}",
        )
        return Response(
            DownloadedModel(
                provider=provider.name,
                model=download.model.name,
                path=str(download.path),
                bytes=download.size_bytes,
            )
        )


class OpenAIListModels(APIView):
    """List the models in OpenAI's shape, for `client.models.list()`."""

    @extend_schema(operation_id="list_models", responses={200: OpenAIModelList})
    def get(self, request: Request) -> Response:
        models = catalog.list_models(caller_of(request))
        allowed = [_as_openai(one.target) for one in models if one.allowed]
        return Response(OpenAIModelList(data=allowed))


class OpenAIShowModel(APIView):
    """Show one model in OpenAI's shape, for `client.models.retrieve(id)`."""

    @extend_schema(
        operation_id="retrieve_model",
        parameters=[MODEL_ID],
        responses={200: OpenAIModel},
    )
    def get(self, request: Request, model_id: str) -> Response:
        return Response(_as_openai(catalog.model_state(model_id).target))


def _names(target: Target) -> Names:
    return {"provider": target.provider.name, "model": target.model.name}


def _as_openai(target: Target) -> OpenAIModel:
    return OpenAIModel(id=target.label, owned_by=target.provider.name)


def _described(state: catalog.ModelState) -> ModelState:
    model, serving = state.target.model, state.serving
    recommended = model.recommended_prompts
    return filled(
        ModelState,
        model,
        **_names(state.target),
        allowed=state.allowed,
        default=state.default,
        loaded=state.loaded,
        downloaded=state.downloaded,
        native_dimensions=_sizes(model.native_dimensions),
        runtime=serving.runtime if serving else None,
        device=serving.device if serving else None,
        verified=serving.verified if serving else None,
        prompts=Prompts(query=model.query_prompt, document=model.document_prompt),
        recommended_prompts=Prompts(query=recommended[0], document=recommended[1])
        if recommended
        else None,
        card=_card(model.card) if model.card else None,
        memory_bytes=serving.memory_bytes if serving else None,
        needs_torch=serving.needs_torch or None if serving else None,
        problem=state.problem,
        action=filled(ModelActionState, state.action) if state.action else None,
    )


def _card(card: base.ModelCard) -> ModelCard:
    prompts = Prompts(query=card.query_prompt, document=card.document_prompt)
    return filled(ModelCard, card, prompts=prompts, matryoshka=_sizes(card.matryoshka))


def _sizes(given: base.Sizes) -> list[int] | Sizes | None:
    sizes = written_sizes(given)
    return Sizes(**sizes) if isinstance(sizes, dict) else sizes
