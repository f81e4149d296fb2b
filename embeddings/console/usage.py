"""The console's pages for usage: read-only, with the totals of what is filtered."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from embeddings.console.lists import BigList, among, typed
from embeddings.console.words import dollars
from embeddings.models import EndUserDay, UsageHour
from embeddings.services.usage.ledger import usage
from providers.admin import ReadOnlyAdmin
from providers.folding import UnicodeSearch
from providers.registry import registry

SUMS = ("requests", "errors", "tokens", "cache_hits", "cost")


class UsageAdmin(UnicodeSearch, BigList, ReadOnlyAdmin):
    """What was counted up to now."""

    search_among = 5_000
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
        *SUMS[:-1],
        "dollars",
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

    @admin.display(description="cost")
    def dollars(self, row: UsageHour) -> str:
        return dollars(row.cost)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data:
            rows = response.context_data["cl"]
            # Of more than are listed, sums would take the longer the more there are; the charts have them.
            if not rows.paginator.has_more:
                response.context_data["totals"] = _totals(rows.queryset)
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


def _totals(rows: QuerySet[UsageHour]) -> list[tuple[str, str]]:
    sums = rows.order_by().aggregate(**{name: Sum(name) for name in SUMS})
    return [(name.replace("_", " "), _written(name, sums[name] or 0)) for name in SUMS]


def _written(name: str, value: Any) -> str:
    return dollars(value) if name == "cost" else f"{value:,}"
