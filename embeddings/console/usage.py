"""The console's pages for usage: read-only, with the totals of what is filtered."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from embeddings.console.lists import BigList, among, typed
from embeddings.models import EndUserDay, UsageHour
from embeddings.services.usage.ledger import usage
from providers.admin import ReadOnlyAdmin
from providers.folding import UnicodeSearch
from providers.registry import registry

SUMS = ("requests", "errors", "tokens", "cache_hits", "cost")


class UsageAdmin(UnicodeSearch, BigList, ReadOnlyAdmin):
    """What was counted up to now."""

    search_among = 10_000
    period_at_first = "month"
    empty_text = "Usage is listed as soon as a caller embeds something, or another time is chosen under Filters."

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        usage().flush()
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response


@admin.register(UsageHour)
class UsageHourAdmin(UsageAdmin):
    section = "Records"
    icon = "data_usage"
    list_display = (
        "hour",
        "username",
        "caller",
        "provider",
        "model",
        *SUMS,
    )
    list_filter = (
        among("provider", "provider", lambda: ((n, n) for n in registry().names())),
        typed("model", "model"),
        typed("username", "user"),
    )
    search_fields = ("username", "caller", "model")
    period = "hour"
    sortable_by = ("hour",)
    list_before_template = "admin/usage_totals.html"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data:
            rows = response.context_data["cl"].queryset.order_by()
            totals = rows.aggregate(**{name: Sum(name) for name in SUMS})
            response.context_data["totals"] = [
                (name.replace("_", " "), _written(name, totals[name] or 0))
                for name in SUMS
            ]
        return response


@admin.register(EndUserDay)
class EndUserDayAdmin(UsageAdmin):
    section = "Records"
    icon = "supervised_user_circle"
    list_display = ("day", "caller", "end_user", "requests", "tokens")
    search_fields: ClassVar = ["caller", "end_user"]
    period = "day"
    sortable_by = ("day",)
    list_filter = (typed("caller", "caller"), typed("end_user", "end user"))


def _written(name: str, value: Any) -> str:
    return f"${value:,.4f}" if name == "cost" else f"{value:,}"
