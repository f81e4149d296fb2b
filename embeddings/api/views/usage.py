"""What callers used."""

from typing import cast

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.api import answers
from embeddings.api.renderers import JSONRenderer
from embeddings.api.usage import (
    USAGE_PARAMETERS,
    CSVRenderer,
    UsageQuerySerializer,
    usage_list,
)
from embeddings.services.callers import Caller
from embeddings.services.usage_report import usage_report


class ShowUsage(APIView):
    """Sum up requests, tokens, cache hits, errors and estimated cost: one's own; all callers' for admins."""

    renderer_classes = (JSONRenderer, CSVRenderer)

    @extend_schema(
        operation_id="usage",
        parameters=USAGE_PARAMETERS,
        responses={
            (200, "application/json"): answers.USAGE,
            (200, "text/csv"): answers.STRING,
        },
    )
    def get(self, request: Request) -> Response:
        serializer = UsageQuerySerializer(data=request.query_params)
        serializer.is_valid(raise_exception=True)
        query = serializer.validated_data
        rows, total = usage_report(cast(Caller, request.auth), **query)
        return Response(usage_list(rows, total, query=query))
