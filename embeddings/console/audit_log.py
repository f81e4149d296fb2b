"""The audit log: who did what, in sentences, and what it was before and after."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from embeddings.console.lists import BigList, typed
from embeddings.models import AuditEntry
from embeddings.services.audit import differences, sentence
from providers.admin import ReadOnlyAdmin
from providers.folding import UnicodeSearch


@admin.register(AuditEntry)
class AuditEntryAdmin(UnicodeSearch, BigList, ReadOnlyAdmin):
    section = "Records"
    icon = "history"
    list_display = ("at", "what", "source", "request_id")
    list_display_links = ("at", "what")
    list_filter = (
        "source",
        typed("action", "action", "delete"),
        typed("actor", "actor"),
    )
    search_fields = ("actor", "target", "request_id")
    search_help_text = "Who, what or request id"
    search_among = 5_000
    period = "at"
    sortable_by = ("at",)
    empty_text = (
        "What people change here, by API or by command is written down in this list."
    )
    fields = ("what", "at", "actor", "source", "credential", "request_id")
    readonly_fields = fields
    change_form_after_template = "console/audit_changes.html"

    @admin.display(description="what")
    def what(self, entry: AuditEntry) -> str:
        return sentence(entry)

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **options: Any
    ) -> HttpResponse:
        context["changes"] = differences(context["original"])
        response: HttpResponse = super().render_change_form(
            request, context, *args, **options
        )
        return response
