"""What the console's lists of the server's own rows are made of; embeddings/console/ registers them."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from providers import canary
from providers.folding import UnicodeSearch
from providers.models import RemoteSpace, Revision


class FixedRowsAdmin(ModelAdmin):  # type: ignore[misc]
    """Rows that people neither add nor delete."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyAdmin(FixedRowsAdmin):
    """Rows that the server writes and people only read."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class WatchedAdmin(ModelAdmin):  # type: ignore[misc]
    """Rows that every process reads again within two seconds of a change."""

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().delete_queryset(request, queryset)
        Revision.bump()  # a bulk delete does not pass through the rows


class RemoteSpaceAdmin(UnicodeSearch, FixedRowsAdmin):
    """What the canary found. Rows are never deleted: the next check would take any vectors for the right ones."""

    list_display = (
        "model",
        "provider",
        "pool",
        "host",
        "state",
        "cosine",
        "checked_at",
        "revision",
        "accepted_by",
        "last_error",
    )
    list_filter = ("state", "provider", "pool")
    search_fields = ("model",)
    fields = (
        "provider",
        "model",
        "pool",
        "host",
        "state",
        "cosine",
        "checked_at",
        "dimensions",
        "seen_dimensions",
        "revision",
        "accepted_by",
        "accepted_at",
        "last_error",
    )
    readonly_fields = fields
    actions: ClassVar = ["accept_revisions"]

    @admin.display(description="dimensions now")
    def seen_dimensions(self, row: RemoteSpace) -> int | None:
        """Show how wide the vectors are that a drifted model gives."""
        return canary.width(row.seen) or row.dimensions

    @admin.action(description="Accept as a new revision", permissions=["change"])
    def accept_revisions(
        self, request: HttpRequest, queryset: QuerySet[RemoteSpace]
    ) -> None:
        if queryset.exclude(pool="").exists():
            messages.warning(
                request,
                "A member's vectors are never accepted as its pool's. Take it out of the pool to use them under its own"
                " name, or accept those of the pool's own provider.",
            )
        accepted = sum(self.accept(request, row) for row in queryset)
        messages.success(request, f"Accepted {accepted} new revision(s).")

    def accept(self, request: HttpRequest, row: RemoteSpace) -> bool:
        """Accept one row; return whether there was something to accept."""
        return canary.accept(row.pk, by=request.user.get_username())
