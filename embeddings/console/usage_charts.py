"""Who used how much of what, as charts and as a table for spreadsheets."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from embeddings.console.charts import Chart, Series
from embeddings.console.page import ConsolePage
from embeddings.console.words import count, dollars
from embeddings.services.usage.report import UsageOverTime, UsageRow, usage_over_time
from embeddings.services.usage.spreadsheet import as_csv

DAYS = {"day": 1, "week": 7, "month": 30, "quarter": 90}
MEASURES = ("tokens", "requests", "cost", "errors", "cache_hits")
MOST_SERIES = 7
MOST_ROWS = 200


class Usage(ConsolePage):
    """By model or by caller (a user or one of its keys), since some days ago. `?csv` answers with all of the table."""

    route = "usage/"
    title = "Usage"
    icon = "bar_chart"
    section = "Records"
    needs = ("embeddings.view_usagehour",)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if "csv" in request.GET:
            return self._as_csv()
        return super().get(request, *args, **kwargs)

    def show(self) -> dict[str, Any]:
        period, by, measure = self._chosen()
        found = self._found()
        ranked = _ranked(found, measure)
        return {
            "period": period,
            "periods": [*DAYS],
            "by": by,
            "measure": measure,
            "measures": [(name, name.replace("_", " ")) for name in MEASURES],
            "chart": _chart(found, ranked, by, measure),
            "rows": [_shown(row) for row in ranked[:MOST_ROWS]],
            "left_out": len(ranked) - len(ranked[:MOST_ROWS]),
            "total": _total(ranked),
        }

    def _chosen(self) -> tuple[str, str, str]:
        """Return the period, the kind of groups and the measure: those of the address that exist, else the first."""
        given = self.request.GET
        period = given.get("period", "")
        measure = given.get("measure", "")
        return (
            period if period in DAYS else "week",
            "caller" if given.get("by") == "caller" else "model",
            measure if measure in MEASURES else "tokens",
        )

    def _found(self) -> UsageOverTime:
        period, by, measure = self._chosen()
        since = timezone.now() - timedelta(days=DAYS[period])
        group_by: Any = by
        return usage_over_time(since=since, group_by=group_by, measure=measure)

    def _as_csv(self) -> HttpResponse:
        period, by, measure = self._chosen()
        ranked = _ranked(self._found(), measure)
        names = ("provider", "model") if by == "model" else ("caller", "username")
        sums = ("requests", "errors", "tokens", "cache_hits", "cost_usd")
        rows = [{**row.group, **_sums(row)} for row in ranked]
        answer = HttpResponse(
            as_csv([*names, *sums], rows), content_type="text/csv; charset=utf-8"
        )
        name = f"usage-{by}-{period}.csv"
        answer["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer


def _ranked(found: UsageOverTime, measure: str) -> list[UsageRow]:
    return sorted(found.groups.values(), key=lambda row: -getattr(row, measure))


def _sums(row: UsageRow) -> dict[str, Any]:
    return {
        "requests": row.requests,
        "errors": row.errors,
        "tokens": row.tokens,
        "cache_hits": row.cache_hits,
        "cost_usd": float(row.cost),
    }


def _shown(row: UsageRow) -> dict[str, Any]:
    return {
        "group": _name(row),
        "requests": count(row.requests),
        "errors": count(row.errors),
        "tokens": count(row.tokens),
        "cache_hits": count(row.cache_hits),
        "cost": dollars(row.cost),
    }


def _name(row: UsageRow) -> str:
    first, second = row.group.values()
    if "provider" in row.group:
        return f"{first}:{second}" if first else "failed before a model was found"
    return f"{second} ({first})"


def _total(rows: list[UsageRow]) -> dict[str, str]:
    return {
        "requests": count(sum(row.requests for row in rows)),
        "errors": count(sum(row.errors for row in rows)),
        "tokens": count(sum(row.tokens for row in rows)),
        "cache_hits": count(sum(row.cache_hits for row in rows)),
        "cost": dollars(sum((row.cost for row in rows), Decimal(0))),
    }


def _chart(
    found: UsageOverTime, ranked: list[UsageRow], by: str, measure: str
) -> Chart:
    series = []
    for row in ranked[:MOST_SERIES]:
        days = found.by_day[tuple(row.group.values())]
        values = [float(days.get(day, 0)) for day in found.days]
        series.append(Series(name=_name(row), values=values))
    if rest := ranked[MOST_SERIES:]:
        groups = [found.by_day[tuple(row.group.values())] for row in rest]
        values = [float(sum(days.get(day, 0) for days in groups)) for day in found.days]
        series.append(Series(name=f"{len(rest)} others", values=values))
    return Chart(
        id="usage",
        title=f"{measure.replace('_', ' ').capitalize()} by {by} and day (UTC)",
        kind="bar",
        stacked=True,
        labels=found.days,
        series=series,
        unit="USD" if measure == "cost" else "",
    )
