"""The allowlist: what each entry lets through is shown before it is saved."""

from django.contrib import admin

from embeddings.console.audited_page import AuditedPage
from providers.admin import WatchedAdmin
from providers.models import AllowlistEntry


@admin.register(AllowlistEntry)
class AllowlistEntryAdmin(AuditedPage, WatchedAdmin):
    section = "Gateway"
    icon = "rule"
    list_display = ("pattern", "kind")
    list_filter = ("kind",)
