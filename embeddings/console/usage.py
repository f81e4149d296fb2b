"""The console's pages for usage: read-only, with the totals of what is filtered."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from embeddings.models import EndUserDay, UsageHour
from embeddings.services.usage.ledger import usage
from providers.admin import ReadOnlyAdmin
from providers.folding import UnicodeSearch

SUMS = ("requests", "errors", "tokens", "cache_hits", "cost")


class UsageAdmin(UnicodeSearch, ReadOnlyAdmin):
    """What was counted up to now."""

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
    list_filter = ("provider", "model", "username")
    search_fields = ("username", "caller", "model")
    date_hierarchy = "hour"
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
    date_hierarchy = "day"


def _written(name: str, value: Any) -> str:
    return f"${value:,.4f}" if name == "cost" else f"{value:,}"
