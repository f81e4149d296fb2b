"""The allowlist: what each entry lets through is shown before it is saved."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path

from embeddings.console.audited_page import AuditedPage
from embeddings.services.allowlist_preview import Entry, preview
from providers.admin import WatchedAdmin
from providers.models import AllowlistEntry

SHOWN = "console/allowlist_preview.html"


@admin.register(AllowlistEntry)
class AllowlistEntryAdmin(AuditedPage, WatchedAdmin):
    section = "Gateway"
    icon = "rule"
    list_display = ("pattern", "kind")
    list_filter = ("kind",)
    fields = ("kind", "pattern")
    list_before_template = "console/allowlist_summary.html"
    change_form_after_template = "console/allowlist_form.html"

    def get_urls(self) -> list[URLPattern]:
        shown = self.admin_site.admin_view(self.preview)
        name = "providers_allowlistentry_preview"
        return [path("preview/", shown, name=name), *super().get_urls()]

    def preview(self, request: HttpRequest) -> HttpResponse:
        """Show what the list would let through with what is in the form; of an entry that is there, in its place."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        given = request.GET
        entry = Entry(kind=given.get("kind", ""), pattern=given.get("pattern", ""))
        key = given.get("entry", "")
        found = preview(entry, replaces=int(key) if key.isdecimal() else None)
        return render(request, SHOWN, {"preview": found, "pattern": entry.pattern})

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        context = {**(extra_context or {}), "preview": preview()}
        return super().changelist_view(request, context)

    def save_related(self, request: HttpRequest, *args: Any) -> None:
        """Warn of what the list as it is now shuts out."""
        super().save_related(request, *args)
        self._warn(request)

    def delete_model(self, request: HttpRequest, obj: AllowlistEntry) -> None:
        super().delete_model(request, obj)
        self._warn(request)

    def _warn(self, request: HttpRequest) -> None:
        for sentence in preview().warnings:
            messages.warning(request, sentence)
