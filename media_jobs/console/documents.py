"""The console's pages for documents, their chunks, and jobs. What is done here goes through the services."""

from collections.abc import Sequence
from typing import Any, ClassVar
from unicodedata import normalize

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms.fields import InvalidJSONInput
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from embeddings.console.audited_page import AuditedPage
from embeddings.services.callers import SYSTEM
from embeddings.services.errors import ServiceError
from media_jobs.conf import conf
from media_jobs.metadata import problem_of
from media_jobs.models import MediaItem
from media_jobs.services.jobs import (
    JobOptions,
    delete_item,
    start_job,
)
from providers.folding import UnicodeSearch

PREVIEW_CHARACTERS = 2000
SNIPPET_CHARACTERS = 120


class MetadataField(forms.JSONField):
    """Django's field, also for JSON that nests too deeply for it, has very long numbers, or halves of characters."""

    def to_python(self, value: Any) -> Any:
        try:
            return super().to_python(value)
        except (ValueError, RecursionError) as error:
            raise ValidationError(
                "Enter JSON with less depth and shorter numbers."
            ) from error

    def bound_data(self, data: Any, initial: Any) -> Any:
        try:
            return super().bound_data(data, initial)
        except (ValueError, RecursionError):
            return InvalidJSONInput(data)  # shown again as it was typed

    def prepare_value(self, value: Any) -> Any:
        text = super().prepare_value(value)
        # Halves of surrogate pairs cannot be sent; their escapes mean the same.
        return text.encode(errors="backslashreplace").decode()


class MediaItemForm(forms.ModelForm):  # type: ignore[type-arg]
    """A document's fields, within the bounds that the API has for them."""

    class Meta:
        model = MediaItem
        fields = ("title", "language", "metadata", "owner")
        field_classes: ClassVar = {"metadata": MetadataField}

    def clean_title(self) -> str:
        return normalize("NFC", self.cleaned_data["title"])

    def clean_metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = self.cleaned_data["metadata"] or {}
        if problem := problem_of(metadata):
            raise ValidationError(f"Metadata {problem}")
        return metadata


@admin.register(MediaItem)
class MediaItemAdmin(UnicodeSearch, AuditedPage, ModelAdmin):  # type: ignore[misc]
    section = "Documents"
    icon = "description"
    form = MediaItemForm
    list_display = (
        "title",
        "owner",
        "characters",
        "embedding_model",
        "embedding_count",
        "stale",
        "created_at",
    )
    list_filter = ("embedding_model", "language", "owner")
    search_fields = ("title", "source_filename", "owner__username")
    list_select_related = ("owner",)
    date_hierarchy = "created_at"
    fields = (
        *("title", "language", "metadata", "owner", "source_filename"),
        *("characters", "left_out", "checksum", "created_at", "updated_at"),
        *("embedding_provider", "embedding_model", "embedded_revision"),
        *("vector_space", "dimensions", "embedding_count"),
        *("embedded_at", "stale", "preview"),
    )
    readonly_fields = fields[3:]
    actions: ClassVar = ["embed"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[MediaItem]:
        items: QuerySet[MediaItem] = super().get_queryset(request)
        return items.defer("content")

    @admin.display(description="Warnings")
    def left_out(self, item: MediaItem) -> str:
        """What of the file is not in the text."""
        return " ".join(item.warnings) or "-"

    @admin.display(boolean=True)
    def stale(self, item: MediaItem) -> bool:
        return item.is_stale

    @admin.display(description="text")
    def preview(self, item: MediaItem) -> str:
        rest = item.characters - PREVIEW_CHARACTERS
        more = f"\n… {rest:,} characters more" if rest > 0 else ""
        return item.content[:PREVIEW_CHARACTERS] + more

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def audit_state(self, row: Any) -> dict[str, Any]:
        """Return what names the document: its text is the owner's."""
        return {"title": row.title, "owner": str(row.owner), "checksum": row.checksum}

    def get_deleted_objects(
        self, objs: Sequence[MediaItem] | QuerySet[MediaItem], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Name the documents alone: their chunks are theirs, and may be very many."""
        return [str(item) for item in objs], {"media items": len(objs)}, set(), []

    def delete_model(self, request: HttpRequest, obj: MediaItem) -> None:
        self.note(request, "delete", obj, before=self.audit_state(obj))
        delete_item(SYSTEM, obj.pk)

    def delete_queryset(
        self, request: HttpRequest, queryset: QuerySet[MediaItem]
    ) -> None:
        for item in queryset:
            self.delete_model(request, item)

    @admin.action(description="Embed the selected documents", permissions=["change"])
    def embed(self, request: HttpRequest, queryset: QuerySet[MediaItem]) -> None:
        """Start a job with the server's defaults for each."""
        wanted = JobOptions(
            chunk_size=conf().chunk_size, chunk_overlap=conf().chunk_overlap
        )
        try:
            made = [start_job(SYSTEM, item.pk, wanted).is_new for item in queryset]
        except ServiceError as error:
            messages.error(request, error.message)
            return
        messages.success(request, f"Started {sum(made)} job(s).")
