"""The audit log."""

from django.contrib import admin

from embeddings.models import AuditEntry
from providers.admin import ReadOnlyAdmin
from providers.folding import UnicodeSearch


@admin.register(AuditEntry)
class AuditEntryAdmin(UnicodeSearch, ReadOnlyAdmin):
    section = "Records"
    icon = "history"
    list_display = ("at", "actor", "source", "action", "target", "request_id")
    list_filter = ("source", "action")
    search_fields = ("actor", "target", "request_id")
    date_hierarchy = "at"
