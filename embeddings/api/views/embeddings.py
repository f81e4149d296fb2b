"""Text in, vectors out."""

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request

from embeddings import headers
from embeddings.access.throttling import LimitedView, refusals_counted
from embeddings.api.representation import (
    EmbeddingBatch,
    EmbeddingList,
    embedding_batch,
    embedding_list,
)
from embeddings.api.requests import embedding_request
from embeddings.api.schema import STEERING_PARAMETERS, With
from embeddings.api.serializers import (
    BatchRequestSerializer,
    EmbeddingRequestSerializer,
)
from embeddings.fast_path.rest_framework import answer, validated
from embeddings.services.embed import embed
from embeddings.services.usage.conventions import ENCODING_FORMATS
from providers.tracing import note

# What /docs offers to try: answered by every server, with or without a key for OpenAI.
TWO_TEXTS = ["The cat sat on the mat.", "A feline rested on the rug."]


class CreateEmbeddings(LimitedView):
    """Embed a string, a list of strings, a token array or a list of token arrays."""

    more_errors = (409,)

    @extend_schema(
        operation_id="create_embeddings",
        request=EmbeddingRequestSerializer,
        examples=[
            OpenApiExample(
                "Two texts",
                value={"input": TWO_TEXTS, "model": "text-embedding-3-small"},
                request_only=True,
            )
        ],
        responses={200: With(EmbeddingList, headers.OF_EMBEDDINGS)},
        parameters=STEERING_PARAMETERS,
    )
    def post(self, request: Request) -> HttpResponse:
        with refusals_counted(request):
            body = validated(EmbeddingRequestSerializer, request)
            wanted = embedding_request(request, body, inputs=body["input"])
        note({ENCODING_FORMATS: [body["encoding_format"]]})
        result = embed(wanted)
        self.charge_tokens(request, result.prompt_tokens)
        data = embedding_list(result, encoding_format=body["encoding_format"])
        return answer(request, data, headers=headers.embedding_headers(result))


class CreateEmbeddingBatch(LimitedView):
    """Embed a list of strings and answer with bare vectors."""

    more_errors = (409,)

    @extend_schema(
        operation_id="create_embedding_batch",
        request=BatchRequestSerializer,
        examples=[
            OpenApiExample(
                "Two texts",
                value={"texts": TWO_TEXTS, "model": "text-embedding-3-small"},
                request_only=True,
            )
        ],
        responses={200: With(EmbeddingBatch, headers.OF_EMBEDDINGS)},
        parameters=STEERING_PARAMETERS,
    )
    def post(self, request: Request) -> HttpResponse:
        with refusals_counted(request):
            body = validated(BatchRequestSerializer, request)
            wanted = embedding_request(
                request, body, inputs=body["texts"], place="texts[{}]"
            )
        result = embed(wanted)
        self.charge_tokens(request, result.prompt_tokens)
        data = embedding_batch(result)
        return answer(request, data, headers=headers.embedding_headers(result))
