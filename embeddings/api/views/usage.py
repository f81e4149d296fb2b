"""What callers used, as JSON and as CSV."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, TypedDict, cast

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.api.json_types import plain
from embeddings.api.renderers import JSONRenderer
from embeddings.api.serializers import MomentField
from embeddings.services.callers import Caller
from embeddings.services.usage.budgets import month_start
from embeddings.services.usage.report import (
    GROUPS,
    GroupBy,
    UsageRow,
    usage_columns,
    usage_report,
)
from embeddings.services.usage.spreadsheet import as_csv

USAGE_PARAMETERS = [
    OpenApiParameter(
        "caller",
        str,
        description="One caller's id, such as `user:7`; others' for admins only.",
    ),
    OpenApiParameter(
        "from",
        str,
        description="A date or an ISO 8601 time (UTC); default: the month's start.",
    ),
    OpenApiParameter(
        "to", str, description="A date (that day included) or a time; default: now."
    ),
    OpenApiParameter(
        "group_by",
        str,
        enum=[*GROUPS, ""],
        default="day",
        description="Empty: as if it was not sent.",
    ),
    OpenApiParameter(
        "format", str, default="json", description="`csv`, or JSON for anything else."
    ),
]


class GroupedBy(TypedDict, total=False):
    hour: datetime
    day: date
    provider: str
    model: str
    caller: str
    username: str
    key_id: int | None


class UsageFigures(TypedDict):
    requests: int
    errors: int
    tokens: int
    cache_hits: int
    cost_usd: float


class Group(GroupedBy, UsageFigures):
    """The figures of one group; which of the other fields it has says `group_by`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    object: Literal["list"] = "list"
    from_: datetime
    to: datetime
    group_by: GroupBy
    data: list[Group]
    total: UsageFigures


class UsageQuerySerializer(serializers.Serializer[Any]):
    """The query of `GET /usage`."""

    caller = serializers.CharField(max_length=64, required=False)
    group_by = serializers.ChoiceField(list(GROUPS), default="day")

    def get_fields(self) -> dict[str, Any]:
        """Add `from` and `to`; the one is a word of Python's."""
        return {
            **super().get_fields(),
            "from": MomentField(source="since", required=False),
            "to": MomentField(source="until", end=True, required=False),
        }

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC)
        attrs.setdefault("until", now)
        last = min(now, attrs["until"] - timedelta(seconds=1))
        attrs.setdefault("since", month_start(last))
        if attrs["since"] > attrs["until"]:
            raise serializers.ValidationError({"from": "must not be after to."})
        return attrs


class CSVRenderer(BaseRenderer):
    """Render a usage report as CSV: one line a group, no total. Errors stay JSON."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if not isinstance(data, UsageReport):
            if renderer_context:
                renderer_context["response"]["Content-Type"] = "application/json"
            return JSONRenderer().render(data)
        columns = usage_columns(data.group_by)
        return as_csv(columns, plain(data.data)).encode()


class ShowUsage(APIView):
    """Sum up requests, tokens, cache hits, errors and estimated cost: one's own; all callers' for admins."""

    renderer_classes = (JSONRenderer, CSVRenderer)

    @extend_schema(
        operation_id="usage",
        parameters=USAGE_PARAMETERS,
        responses={
            (200, "application/json"): UsageReport,
            (200, "text/csv"): str,
        },
    )
    def get(self, request: Request) -> Response:
        serializer = UsageQuerySerializer(data=request.query_params)
        serializer.is_valid(raise_exception=True)
        query = serializer.validated_data
        rows, total = usage_report(cast(Caller, request.auth), **query)
        report = UsageReport(
            from_=query["since"],
            to=query["until"],
            group_by=query["group_by"],
            data=[_row(row) for row in rows],
            total=_figures(total),
        )
        return Response(report)


def _figures(row: UsageRow) -> UsageFigures:
    return {
        "requests": row.requests,
        "errors": row.errors,
        "tokens": row.tokens,
        "cache_hits": row.cache_hits,
        "cost_usd": float(row.cost),
    }


def _row(row: UsageRow) -> Group:
    group = dict(row.group)
    if "day" in group:
        group["day"] = group["day"].date()
    return cast(Group, {**group, **_figures(row)})
