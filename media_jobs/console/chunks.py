"""The chunks of documents, with their vectors."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse

from embeddings.console.lists import BigList
from media_jobs.console.linked_rows import LinkedRows
from media_jobs.models import StoredChunk
from providers.admin import ReadOnlyAdmin
from providers.folding import UnicodeSearch

SNIPPET_CHARACTERS = 120
MAX_DIGITS = 18


@admin.register(StoredChunk)
class StoredChunkAdmin(LinkedRows, UnicodeSearch, BigList, ReadOnlyAdmin):
    section = "Documents"
    icon = "segment"
    list_display = ("place", "media_id", "start", "end", "space", "snippet")
    list_select_related = ("space", "media")
    search_fields = ("=media__id",)
    search_help_text = "The number of a media item."
    empty_text = (
        "Chunks are stored when a document is embedded: press Embed on its page."
    )
    empty_link = (
        "admin:media_jobs_mediaitem_changelist",
        "Show the documents",
        "media_jobs.view_mediaitem",
    )
    ordering = ("media_id", "index")
    fields = ("media_id", "space", "index", "start", "end", "text")

    def get_queryset(self, request: HttpRequest) -> QuerySet[StoredChunk]:
        chunks: QuerySet[StoredChunk] = super().get_queryset(request)
        return chunks.defer("vector", "media__content", "media__metadata")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        words = search_term.split()
        if not all(word.isdecimal() and len(word) <= MAX_DIGITS for word in words):
            messages.warning(
                request,
                "Chunks are found by the number of their media item, such as 17. To look for words, use Search.",
            )
            return queryset.none(), False
        found: tuple[QuerySet[Any], bool] = super().get_search_results(
            request, queryset, search_term
        )
        return found

    def address_of(self, row: StoredChunk) -> str:
        """Return the place of a chunk in its document."""
        page = reverse("console:document", args=[row.media_id])
        return f"{page}?chunk={row.index}#chunk-{row.index}"

    @admin.display(description="chunk", ordering="media_id")
    def place(self, chunk: StoredChunk) -> str:
        return f"{chunk.media.title[:SNIPPET_CHARACTERS]} #{chunk.index}"

    @admin.display(description="text")
    def snippet(self, chunk: StoredChunk) -> str:
        return chunk.text[:SNIPPET_CHARACTERS]
