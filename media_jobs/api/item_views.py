"""Documents over HTTP."""

from dataclasses import dataclass
from typing import Any

import structlog
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from embeddings.access.authentication import caller_of
from embeddings.access.permissions import MayChangeMedia
from embeddings.access.throttling import FreeThrottle, LimitedView
from embeddings.fast_path.rest_framework import validated
from media_jobs.api.media_answers import (
    Item,
    ItemDeleted,
    ItemPage,
    ItemWithText,
    item_report,
    item_with_text,
    page_of,
)
from media_jobs.api.media_serializers import (
    ContentQuerySerializer,
    ItemChangesSerializer,
    NewItemSerializer,
    PageSerializer,
    UploadSerializer,
)
from media_jobs.api.upload_parsers import (
    ExactJSONParser,
    UploadParser,
    discarding_files,
)
from media_jobs.services.ingestion import read_upload
from media_jobs.services.items import (
    NewItem,
    change_item,
    create_item,
    find_item,
    visible_items,
)
from media_jobs.services.jobs import delete_item
from media_jobs.services.quotas import check_store, quota_use

log = structlog.get_logger(__name__)

PAGE = [PageSerializer]
WITH_CONTENT = OpenApiParameter("content", bool, default=True)


class ExactView(APIView):
    """A view that takes whole numbers as they were sent."""

    parser_classes: tuple[type[BaseParser], ...] = (ExactJSONParser,)


class MediaView(ExactView):
    """A view on documents: a caller's own, or for admins anyone's. A read-only key may look and not touch."""

    permission_classes = (*APIView.permission_classes, MayChangeMedia)


class MediaItems(MediaView, LimitedView):
    """Documents."""

    parser_classes = (ExactJSONParser, UploadParser)
    throttle_classes = (FreeThrottle,)

    def get_throttles(self) -> list[BaseThrottle]:
        """Limit what is written, not what is looked at."""
        return super().get_throttles() if self.request.method == "POST" else []

    @extend_schema(
        operation_id="list_media",
        parameters=PAGE,
        responses={200: ItemPage},
    )
    def get(self, request: Request) -> Response:
        """List the caller's documents, newest first, without their texts."""
        return Response(
            page_of(
                ItemPage,
                item_report,
                visible_items(caller_of(request)),
                **page(request),
            )
        )

    @extend_schema(
        operation_id="create_media",
        request={
            "application/json": NewItemSerializer,
            "multipart/form-data": UploadSerializer,
        },
        responses={201: Item},
        examples=[
            OpenApiExample(
                "A text",
                value={
                    "title": "On cats",
                    "content": "The cat sat on the mat. It stayed there all day.",
                    "metadata": {"shelf": "animals"},
                },
                request_only=True,
                media_type="application/json",
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """Store a document: a text, or a file (txt, md, html, pdf, docx)."""
        check_store(caller_of(request))  # before the body is read
        if is_form(request):
            with discarding_files(request):
                new = _uploaded(request)
        else:
            new = NewItem(**validated(NewItemSerializer, request))
        return Response(item_report(create_item(caller_of(request), new)), status=201)


class ShowMediaItem(MediaView):
    """One document."""

    @extend_schema(
        operation_id="show_media",
        parameters=[WITH_CONTENT],
        responses={200: ItemWithText},
    )
    def get(self, request: Request, media_id: int) -> Response:
        """Show a document, with its text unless `content` is false."""
        query = validated_query(ContentQuerySerializer, request)
        item = find_item(caller_of(request), media_id)
        content = item.content if query["content"] else None
        return Response(item_with_text(item, content=content))

    @extend_schema(
        operation_id="change_media",
        request=ItemChangesSerializer,
        responses={200: Item},
        examples=[
            OpenApiExample("A title", value={"title": "On dogs"}, request_only=True)
        ],
    )
    def patch(self, request: Request, media_id: int) -> Response:
        """Change a document. The vectors of another text stay, marked as stale, until they are made again."""
        changes = validated(ItemChangesSerializer, request)
        return Response(item_report(change_item(caller_of(request), media_id, changes)))

    @extend_schema(operation_id="delete_media", responses={200: ItemDeleted})
    def delete(self, request: Request, media_id: int) -> Response:
        """Delete a document and its vectors, and cancel its jobs."""
        delete_item(caller_of(request), media_id)
        return Response(ItemDeleted(media_id=media_id))


def page(request: Request) -> dict[str, int]:
    """Return the checked `limit` and `offset`."""
    return validated_query(PageSerializer, request)


def validated_query(serializer_class: Any, request: Request) -> dict[str, Any]:
    """Return the checked query parameters. Raises ValidationError."""
    # A plain dict: in a form's data, REST framework takes an empty value for one that was not sent.
    serializer = serializer_class(data=request.query_params.dict())
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def is_form(request: Request) -> bool:
    """Whether the body is a form, with a file."""
    return (request.content_type or "").lower().startswith(UploadParser.media_type)


def _uploaded(request: Request) -> NewItem:
    fields = validated(UploadSerializer, request)
    upload = fields.pop("file")
    return read_upload(
        upload.file, name=upload.name or "", charset=upload.charset or "", **fields
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    used: int
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    documents: Amount
    stored_bytes: Amount
    queued_jobs: Amount


class ShowQuota(MediaView):
    """Show the caller's quotas, `limit` null where there is none, and how much of each is used."""

    @extend_schema(operation_id="media_quota", responses={200: Quota})
    def get(self, request: Request) -> Response:
        amounts = {
            name: Amount(used=one.used, limit=one.limit)
            for name, one in quota_use(caller_of(request)).items()
        }
        return Response(Quota(**amounts))
