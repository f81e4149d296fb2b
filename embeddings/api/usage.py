"""How usage is asked for and looks on the wire, as JSON and as CSV."""

import csv
import io
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.utils.dateparse import parse_date, parse_datetime
from drf_spectacular.utils import OpenApiParameter, extend_schema_field
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer

from embeddings.api.renderers import JSONRenderer
from embeddings.services.budgets import month_start
from embeddings.services.usage_report import GROUPS, UsageRow

EPOCH_YEAR = 1970
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

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


@extend_schema_field({"type": "string"})
class MomentField(serializers.Field[datetime, Any, Any, Any]):
    """A date or a time, UTC unless it says otherwise. `end`: a date means its end."""

    def __init__(self, *, end: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._end = end

    def to_internal_value(self, data: Any) -> datetime:
        # A plus sign that was not escaped arrives as a blank.
        text = str(data).strip().replace(" ", "+")
        try:
            day = parse_date(text)
            moment = self._of_day(day) if day else parse_datetime(text)
            if moment and moment.year >= EPOCH_YEAR:
                return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        raise serializers.ValidationError(
            "must be a date such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z."
        )

    def _of_day(self, day: date) -> datetime:
        start = datetime.combine(day, time(), UTC)
        return start + timedelta(days=1) if self._end else start


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
        if "data" not in data:
            if renderer_context:
                renderer_context["response"]["Content-Type"] = "application/json"
            return JSONRenderer().render(data)
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=_columns(data["group_by"]))
        writer.writeheader()
        writer.writerows(
            {name: _harmless(value) for name, value in row.items()}
            for row in data["data"]
        )
        return text.getvalue().encode()


def usage_list(
    rows: list[UsageRow], total: UsageRow, *, query: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the usage endpoint's object."""
    return {
        "object": "list",
        "from": _moment(query["since"]),
        "to": _moment(query["until"]),
        "group_by": query["group_by"],
        "data": [_usage_row(row) for row in rows],
        "total": _usage_row(total),
    }


def _usage_row(row: UsageRow) -> dict[str, Any]:
    return {
        **{name: _written(name, value) for name, value in row.group.items()},
        "requests": row.requests,
        "errors": row.errors,
        "tokens": row.tokens,
        "cache_hits": row.cache_hits,
        "cost_usd": float(row.cost),
    }


def _columns(group_by: Any) -> list[str]:
    names = (*GROUPS[group_by],)
    if group_by == "caller":
        names = (*names, "username", "key_id")
    return [*names, "requests", "errors", "tokens", "cache_hits", "cost_usd"]


def _written(name: str, value: Any) -> Any:
    if name == "day":
        return value.date().isoformat()
    return _moment(value) if isinstance(value, datetime) else value


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _harmless(value: Any) -> Any:
    """Return a cell that every spreadsheet reads as it is meant: no exponents, and no formulas in people's names."""
    if isinstance(value, float):
        return f"{value:.10f}".rstrip("0").rstrip(".")
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value
