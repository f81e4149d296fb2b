"""The last requests: who asked for what, how it ended, and where the time went. Without their texts."""

from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Concat
from django.http import HttpRequest
from unfold.decorators import display

from embeddings.console.lists import BigList, among, typed
from embeddings.console.words import milliseconds
from embeddings.models import LoggedRequest
from embeddings.services.usage.ledger import usage
from providers.admin import ReadOnlyAdmin
from providers.folding import UnicodeSearch

STATUSES = (200, 400, 401, 403, 404, 409, 413, 415, 429, 499, 500, 502, 503)
SLOW_MILLISECONDS = 1000


class OutcomeFilter(admin.SimpleListFilter):
    """How requests ended, in an operator's words."""

    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("answered", "Answered"),
            ("failed", "Failed"),
            ("fallback", "Answered by a fallback"),
            ("slow", "Took over a second"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        answered = queryset.filter(status__lt=400)
        label = Concat("provider", Value(":"), "model")
        chosen = {
            "answered": answered,
            "failed": queryset.filter(status__gte=400),
            "slow": queryset.filter(milliseconds__gt=SLOW_MILLISECONDS),
            "fallback": answered.annotate(label=label)
            .exclude(provider="")
            .exclude(asked=F("label")),
        }
        found: QuerySet[Any] = chosen.get(self.value() or "", queryset)
        return found


@admin.register(LoggedRequest)
class RequestAdmin(UnicodeSearch, BigList, ReadOnlyAdmin):
    section = "Records"
    icon = "list_alt"
    list_display = (
        "at",
        "endpoint",
        "outcome",
        "username",
        "asked",
        "answered_by",
        "texts",
        "tokens",
        "took",
        "request_id",
    )
    list_filter = (
        OutcomeFilter,
        among("status", "status", lambda: ((one, one) for one in STATUSES)),
        typed("username", "user"),
        typed("request_id", "request id"),
    )
    search_fields = ("request_id", "username", "asked", "endpoint")
    fields = (
        *("at", "request_id", "endpoint", "outcome", "username", "caller"),
        *("asked", "answered_by", "member", "texts", "cache_hits", "tokens"),
        *("took", "time_by_stage"),
    )
    readonly_fields = ("outcome", "answered_by", "took", "time_by_stage")
    empty_text = "Requests are listed as soon as somebody calls the API; REQUEST_LOG_ROWS says how many are kept."

    def get_queryset(self, request: HttpRequest) -> QuerySet[LoggedRequest]:
        usage().flush()  # so that a lone process shows the last request
        rows: QuerySet[LoggedRequest] = super().get_queryset(request)
        return rows

    @display(  # type: ignore[untyped-decorator]
        description="outcome", label={"answered": "success", "failed": "danger"}
    )
    def outcome(self, row: LoggedRequest) -> tuple[str, str]:
        kind = "answered" if row.status < 400 else "failed"
        return kind, f"{row.status} {row.code}".rstrip()

    @admin.display(description="answered by")
    def answered_by(self, row: LoggedRequest) -> str:
        """Name the model where it is another than what was asked for, in the list."""
        label = f"{row.provider}:{row.model}" if row.provider else ""
        return label if label != row.asked else "the same"

    @admin.display(description="took")
    def took(self, row: LoggedRequest) -> str:
        return milliseconds(row.milliseconds)

    @admin.display(description="time by stage")
    def time_by_stage(self, row: LoggedRequest) -> str:
        rest = row.milliseconds - sum(row.stages.values())
        stages = {**row.stages, "HTTP, cache and all else": max(rest, 0)}
        return ", ".join(
            f"{name} {milliseconds(took)}" for name, took in stages.items()
        )
