"""The chunks of documents, with their vectors."""

from django.contrib import admin

from media_jobs.models import StoredChunk
from providers.admin import ReadOnlyAdmin
from providers.folding import UnicodeSearch

SNIPPET_CHARACTERS = 120


@admin.register(StoredChunk)
class StoredChunkAdmin(UnicodeSearch, ReadOnlyAdmin):
    section = "Documents"
    icon = "segment"
    list_display = ("media_id", "index", "start", "end", "space", "snippet")
    list_select_related = ("space",)
    search_fields = ("=media__id",)
    search_help_text = "The number of a media item."
    show_full_result_count = False
    ordering = ("media_id", "index")
    fields = ("media_id", "space", "index", "start", "end", "text")

    @admin.display(description="text")
    def snippet(self, chunk: StoredChunk) -> str:
        return chunk.text[:SNIPPET_CHARACTERS]
