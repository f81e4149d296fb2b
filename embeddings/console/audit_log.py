"""The audit log."""

from django.contrib import admin

from embeddings.console.lists import BigList, typed
from embeddings.models import AuditEntry
from providers.admin import ReadOnlyAdmin
from providers.folding import UnicodeSearch


@admin.register(AuditEntry)
class AuditEntryAdmin(UnicodeSearch, BigList, ReadOnlyAdmin):
    section = "Records"
    icon = "history"
    list_display = ("at", "actor", "source", "action", "target", "request_id")
    list_filter = (
        "source",
        typed("action", "action", "delete"),
        typed("actor", "actor"),
    )
    search_fields = ("actor", "target", "request_id")
    search_help_text = "Who, what or request id"
    search_among = 10_000
    period = "at"
    sortable_by = ("at",)
    empty_text = (
        "What people change here, by API or by command is written down in this list."
    )
