"""The list of documents, and the form that changes one. What is done here goes through the services."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import display

from embeddings.access.caller_lookup import console_caller
from embeddings.console.audited_page import AuditedPage
from embeddings.console.lists import BigList
from embeddings.services.callers import SYSTEM
from media_jobs.console.document import state_of
from media_jobs.console.embedding import embed_documents
from media_jobs.console.filters import (
    EmbeddedFilter,
    LanguageFilter,
    ModelFilter,
    OwnerFilter,
)
from media_jobs.console.forms import EmbedForm, MediaItemForm
from media_jobs.console.linked_rows import LinkedRows
from media_jobs.models import LIVE, Job, MediaItem
from media_jobs.services.jobs import MAX_BATCH, delete_item
from providers.folding import UnicodeSearch


@admin.register(MediaItem)
class MediaItemAdmin(LinkedRows, UnicodeSearch, AuditedPage, BigList):
    section = "Documents"
    icon = "description"
    form = MediaItemForm
    list_display = (
        "title",
        "state",
        "owner",
        "characters",
        "embedding_model",
        "embedding_count",
        "created_at",
    )
    list_filter = (EmbeddedFilter, ModelFilter, LanguageFilter, OwnerFilter)
    search_fields = ("title", "source_filename", "owner__username")
    search_help_text = "A part of a title, of a file's name, or of an owner's name."
    list_select_related = ("owner",)
    empty_text = "Documents come by the API, by manage.py embed_folder, or by hand:"
    empty_link = ("console:upload", "Upload documents", "media_jobs.add_mediaitem")
    ordering = ("-pk",)
    fields = ("title", "language", "metadata", "owner", "text")
    readonly_fields = ("text",)
    actions: ClassVar = ["embed"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[MediaItem]:
        items: QuerySet[MediaItem] = super().get_queryset(request)
        return items.defer("content")

    def address_of(self, row: MediaItem) -> str:
        return reverse("console:document", args=[row.pk])

    @display(  # type: ignore[untyped-decorator]
        description="vectors",
        ordering="embedding_count",
        label={"embedded": "success", "stale": "warning"},
    )
    def state(self, item: MediaItem) -> str:
        return state_of(item)[0]

    @admin.display(description="text and vectors")
    def text(self, item: MediaItem) -> str:
        return format_html(
            '<a class="text-primary-600 dark:text-primary-500 underline" href="{}">The document\'s page</a>',
            self.address_of(item),
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # the page Upload does it

    def audit_state(self, row: Any) -> dict[str, Any]:
        """Return what names the document: its text is the owner's."""
        return {"title": row.title, "owner": str(row.owner), "checksum": row.checksum}

    def get_deleted_objects(
        self, objs: Sequence[MediaItem] | QuerySet[MediaItem], request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Name the documents, and count what goes with them: it may be very much."""
        items = list(objs)
        live = Job.objects.filter(media__in=items, status__in=LIVE)
        counts = {
            "media items": len(items),
            "stored chunks, with their vectors": sum(
                item.embedding_count for item in items
            ),
            "jobs that wait or run, which are cancelled": live.count(),
        }
        return [str(item) for item in items], counts, set(), []

    def delete_model(self, request: HttpRequest, obj: MediaItem) -> None:
        self.note(request, "delete", obj, before=self.audit_state(obj))
        delete_item(SYSTEM, obj.pk)

    def delete_queryset(
        self, request: HttpRequest, queryset: QuerySet[MediaItem]
    ) -> None:
        for item in queryset:
            self.delete_model(request, item)

    @admin.action(description="Embed the selected documents…", permissions=["change"])
    def embed(
        self, request: HttpRequest, queryset: QuerySet[MediaItem]
    ) -> HttpResponse | None:
        """Ask how; then start a job for each, or on any error none."""
        items = list(queryset[: MAX_BATCH + 1])
        if len(items) > MAX_BATCH:
            messages.error(request, f"Choose at most {MAX_BATCH} documents at a time.")
            return None
        data = request.POST if "chunk_size" in request.POST else None
        form = EmbedForm(data, caller=console_caller(request.user))
        if form.is_valid():
            embed_documents(request, [item.pk for item in items], form.options())
            return None
        shown = {
            **self.admin_site.each_context(request),
            "title": f"Embed {len(items)} document{'s' if len(items) > 1 else ''}",
            "items": items,
            "form": form,
        }
        return TemplateResponse(request, "console/embed_documents.html", shown)
