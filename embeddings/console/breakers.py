"""The circuit breakers' rows, to look at and to reset. Their story is on the page of their provider."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import display

from embeddings.console.audited_page import AuditedPage
from embeddings.console.page import ConsolePage, action
from embeddings.services.audit import snapshot
from embeddings.services.breaker_states import reset_breaker
from embeddings.services.errors import ProviderNotFound
from embeddings.services.pool_states import pool_states
from embeddings.services.provider_overview import breaker_story
from providers import breaker
from providers.admin import FixedRowsAdmin
from providers.models import Breaker
from providers.registry import registry

NO_SAVING = {"show_save": False, "show_save_and_continue": False}


class BreakerActions(ConsolePage):
    """What a page's forms do to the breaker of the provider that they name."""

    @action("providers.change_breaker")
    def reset(self, request: HttpRequest) -> None:
        """Close a provider's breaker."""
        name, by = request.POST.get("provider", ""), request.user.get_username()
        try:
            before, after = reset_breaker(name, by=by)
        except ProviderNotFound as error:
            messages.error(request, error.message)
            return
        self.note(
            "reset",
            f"circuit breaker {after.provider}",
            before={"state": before.state},
            after={"state": after.state},
        )
        messages.success(request, f"Closed the circuit breaker of {after.provider}.")


@admin.register(Breaker)
class BreakerAdmin(AuditedPage, FixedRowsAdmin):
    section = "Gateway"
    icon = "electrical_services"
    list_display = (
        "provider",
        "pool",
        "light",
        "failure_count",
        "opened_at",
        "retry_at",
        "last_error",
    )
    fields = (
        "provider",
        "light",
        "failure_count",
        "success_count",
        "opened_at",
        "retry_at",
        "last_error",
    )
    readonly_fields = fields
    list_filter = ("state",)
    actions: ClassVar = ["reset_breakers"]
    change_form_outer_after_template = "console/breaker_story.html"

    @display(  # type: ignore[untyped-decorator]
        description="state",
        ordering="state",
        label={"closed": "success", "open": "danger", "half open": "warning"},
    )
    def light(self, row: Breaker) -> str:
        return str(row.get_state_display())

    @admin.display(description="in the pool of")
    def pool(self, row: Breaker) -> str | None:
        """Name the provider in whose place this one serves, too."""
        return registry().pool_of(row.provider)

    @admin.action(
        description="Close (reset) the selected breakers", permissions=["change"]
    )
    def reset_breakers(self, request: HttpRequest, queryset: QuerySet[Breaker]) -> None:
        for row in queryset:
            before = snapshot(row)
            breaker.reset(row.provider, by=request.user.get_username())
            self.note(request, "reset", row, before=before, after={"state": "closed"})
        messages.success(request, f"Closed {len(queryset)} circuit breaker(s).")

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        """Offer no saving of what nobody can edit, and show the breaker's story."""
        row = context.get("original")
        story = breaker_story(row.provider) if row else []
        may = {"reset": request.user.has_perm("providers.change_breaker")}
        pool = (registry().pool_of(row.provider) or row.provider) if row else ""
        context |= {**NO_SAVING, "changes": story, "may": may, "pool": pool}
        context["members"] = pool_states().get(pool)
        shown: HttpResponse = super().render_change_form(
            request, context, *args, **options
        )
        return shown
