"""Search over HTTP."""

from dataclasses import dataclass
from typing import Any, cast

from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from embeddings import headers as names
from embeddings.access.authentication import caller_of
from embeddings.access.throttling import LimitedView
from embeddings.api.json_types import filled
from embeddings.api.requests import input_type_of
from embeddings.api.schema import INPUT_TYPE_PARAMETER, With
from embeddings.api.serializers import (
    MAX_DIMENSIONS,
    MomentField,
    StrictBooleanField,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
    input_type_field,
)
from embeddings.fast_path.rest_framework import validated
from media_jobs.api.item_views import ExactView
from media_jobs.api.media_serializers import MAX_ID
from media_jobs.metadata import shown
from media_jobs.services.filters import Filters
from media_jobs.services.jobs import MAX_BATCH
from media_jobs.services.metadata_filter import filter_problem
from media_jobs.services.search import Found, SearchQuery, search

MAX_TOP_K = 100


@extend_schema_field({"type": "object", "additionalProperties": True})
class MetadataFilterField(serializers.Field[dict[str, Any], Any, Any, Any]):
    """Paths into the metadata, each with a value or a list of values."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if problem := filter_problem(data):
            raise serializers.ValidationError(problem)
        return cast("dict[str, Any]", data)


class FiltersSerializer(StrictSerializer):
    """What a document must be like."""

    title = StrictCharField(max_length=500, required=False)
    language = StrictCharField(max_length=35, required=False)
    source_filename = StrictCharField(max_length=255, required=False)
    created_after = MomentField(required=False)
    created_before = MomentField(end=True, required=False)
    metadata = MetadataFilterField(required=False)


class SearchSerializer(StrictSerializer):
    """The body of `POST /media/embeddings/search`."""

    query = StrictCharField()
    top_k = StrictIntegerField(min_value=1, max_value=MAX_TOP_K, default=10)
    media_ids = serializers.ListField(
        child=StrictIntegerField(min_value=1, max_value=MAX_ID),
        min_length=1,
        max_length=MAX_BATCH,
        required=False,
    )
    filters = FiltersSerializer(required=False)
    model = StrictCharField(max_length=512, required=False)
    provider = StrictCharField(max_length=64, required=False)
    dimensions = StrictIntegerField(
        min_value=1, max_value=MAX_DIMENSIONS, required=False
    )
    hybrid = StrictBooleanField(required=False)
    input_type = input_type_field()

    def validate_query(self, value: str) -> str:
        if not value.strip():
            raise serializers.ValidationError("must not be empty or blank.")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundChunk:
    """One hit."""

    media_id: int
    title: str
    chunk_index: int
    text: str
    start: int
    end: int
    score: float
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResults:
    results: list[FoundChunk]
    count: int


class SearchMedia(ExactView, LimitedView):
    """Find the chunks nearest to a query in the caller's documents, within one vector space."""

    more_errors = (409,)

    @extend_schema(
        operation_id="search_media",
        request=SearchSerializer,
        parameters=[INPUT_TYPE_PARAMETER],
        responses={200: With(SearchResults, names.OF_EMBEDDINGS)},
        examples=[
            OpenApiExample(
                "A question",
                value={"query": "Where did the cat sit?", "top_k": 5},
                request_only=True,
            )
        ],
    )
    def post(self, request: Request) -> Response:
        body = validated(SearchSerializer, request)
        filters = Filters(**body.pop("filters", {}))
        body["input_type"] = input_type_of(request, body) or "query"
        query = SearchQuery(text=body.pop("query"), filters=filters, **body)
        result = search(caller_of(request), query)
        headers = {}
        if result.embedded:
            self.charge_tokens(request, result.embedded.prompt_tokens)
            headers = names.embedding_headers(result.embedded)
        rows = [_chunk(found) for found in result.found]
        return Response(SearchResults(results=rows, count=len(rows)), headers=headers)


def _chunk(found: Found) -> FoundChunk:
    item = found.item
    return filled(
        FoundChunk, found.hit, title=item.title, metadata=shown(item.metadata)
    )
