"""Text in, vectors out."""

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.api import answers
from embeddings.api.representation import (
    embedding_batch,
    embedding_headers,
    embedding_list,
)
from embeddings.api.requests import embedding_request, validated
from embeddings.api.schema import STEERING_PARAMETERS
from embeddings.api.serializers import (
    BatchRequestSerializer,
    EmbeddingRequestSerializer,
)
from embeddings.services.embed import embed

# What /docs offers to try: answered by every server, with or without a key for OpenAI.
TWO_TEXTS = ["The cat sat on the mat.", "A feline rested on the rug."]


class CreateEmbeddings(APIView):
    """Embed a string, a list of strings, a token array or a list of token arrays."""

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
        responses={200: answers.EMBEDDING_LIST},
        parameters=STEERING_PARAMETERS,
    )
    def post(self, request: Request) -> Response:
        body = validated(EmbeddingRequestSerializer, request)
        result = embed(embedding_request(request, body, inputs=body["input"]))
        data = embedding_list(result, encoding_format=body["encoding_format"])
        return Response(data, headers=embedding_headers(result))


class CreateEmbeddingBatch(APIView):
    """Embed a list of strings and answer with bare vectors."""

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
        responses={200: answers.EMBEDDING_BATCH},
        parameters=STEERING_PARAMETERS,
    )
    def post(self, request: Request) -> Response:
        body = validated(BatchRequestSerializer, request)
        result = embed(embedding_request(request, body, inputs=body["texts"]))
        return Response(embedding_batch(result), headers=embedding_headers(result))
