"""Usage summed up for a report: by hour, day, model or caller."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from django.db.models import Aggregate, CharField, Max, Q, QuerySet, Sum
from django.db.models.functions import Cast, Substr, TruncDay

from embeddings.models import UsageHour
from embeddings.services.callers import Caller
from embeddings.services.errors import NotAllowed
from embeddings.services.usage.ledger import usage

GroupBy = Literal["hour", "day", "model", "caller"]
GROUPS: Mapping[GroupBy, tuple[str, ...]] = {
    "hour": ("hour",),
    "day": ("day",),
    "model": ("provider", "model"),
    "caller": ("caller",),
}
SUMS = ("requests", "errors", "tokens", "cache_hits", "cost")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """The sums of one group. `group` says which: moments for hour and day, else words (and a key's id)."""

    group: Mapping[str, Any]
    requests: int
    errors: int
    tokens: int
    cache_hits: int
    cost: Decimal


def usage_columns(group_by: GroupBy) -> list[str]:
    """Return the columns of a report as a table, in order."""
    names = (*GROUPS[group_by],)
    if group_by == "caller":
        names = (*names, "username", "key_id")
    return [*names, "requests", "errors", "tokens", "cache_hits", "cost_usd"]


def usage_report(
    viewer: Caller,
    *,
    since: datetime,
    until: datetime,
    group_by: GroupBy,
    caller: str | None = None,
) -> tuple[list[UsageRow], UsageRow]:
    """Return the groups and their total, of hours that begin from `since` to before `until`.

    Who may see all usage sees all callers, or the one it names; a user its own and its keys'; a key itself. Raises
    NotAllowed.
    """
    usage().flush()  # so that a lone process answers to the last request
    rows = _visible(viewer, caller).filter(hour__gte=since, hour__lt=until)
    sums: dict[str, Aggregate] = {name: Sum(name) for name in SUMS}
    total = rows.aggregate(**sums)
    names = GROUPS[group_by]
    grouped = rows.annotate(day=TruncDay("hour")).order_by(*names).values(*names)
    if group_by == "caller":
        sums |= {"username": Max("username"), "key_id": Max("key_id")}
        names = (*names, "username", "key_id")
    return [
        _row({name: found[name] for name in names}, found)
        for found in grouped.annotate(**sums)
    ], _row({}, total)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageOverTime:
    """`days`: dates (UTC) as ISO 8601 writes them. Of each group its sums, and in each day its `measure`."""

    days: Sequence[str]
    groups: Mapping[tuple[str, ...], UsageRow]
    by_day: Mapping[tuple[str, ...], Mapping[str, Decimal]]


def usage_over_time(
    *, since: datetime, group_by: GroupBy, measure: str
) -> UsageOverTime:
    """Return what all callers used by day since then, in the groups `model`, or `caller` with its name."""
    usage().flush()
    names = ("provider", "model") if group_by == "model" else ("caller", "username")
    rows = UsageHour.objects.filter(hour__gte=since).order_by()
    # Both databases keep UTC, and TruncDay calls Python for each row in SQLite.
    found = rows.values(*names, day=Substr(Cast("hour", CharField()), 1, 10))
    totals: dict[tuple[str, ...], dict[str, Any]] = {}
    by_day: dict[tuple[str, ...], dict[str, Decimal]] = {}
    for row in found.annotate(**{f"sum_{name}": Sum(name) for name in SUMS}):
        group = tuple(row[name] for name in names)
        sums = totals.setdefault(group, dict.fromkeys(SUMS, 0))
        for name in SUMS:
            sums[name] += row[f"sum_{name}"]
        days = by_day.setdefault(group, {})
        days[row["day"]] = days.get(row["day"], Decimal(0)) + row[f"sum_{measure}"]
    first, last = since.astimezone(UTC).date(), datetime.now(UTC).date()
    return UsageOverTime(
        days=[
            str(first + timedelta(days=day)) for day in range((last - first).days + 1)
        ],
        groups={
            group: _row(dict(zip(names, group, strict=True)), sums)
            for group, sums in totals.items()
        },
        by_day=by_day,
    )


def usage_by_provider(since: datetime) -> dict[str, UsageRow]:
    """Return the sums of each provider over the hours that begin from `since` on."""
    usage().flush()
    rows = UsageHour.objects.filter(hour__gte=since).order_by().values("provider")
    sums: dict[str, Aggregate] = {name: Sum(name) for name in SUMS}
    return {
        found["provider"]: _row({"provider": found["provider"]}, found)
        for found in rows.annotate(**sums)
    }


def _visible(viewer: Caller, caller: str | None) -> QuerySet[UsageHour]:
    rows = UsageHour.objects.all()
    if not viewer.may("embeddings.view_usagehour"):
        own = Q(caller=viewer.id)
        if viewer.key_id is None and viewer.user_id is not None:
            own |= Q(user_id=viewer.user_id)
        rows = rows.filter(own)
        if caller not in (None, viewer.id) and not rows.filter(caller=caller).exists():
            raise NotAllowed(
                "Only admins with the permission embeddings.view_usagehour may see the usage of other callers."
            )
    return rows if caller is None else rows.filter(caller=caller)


def _row(group: Mapping[str, Any], sums: Mapping[str, Any]) -> UsageRow:
    figures: dict[str, Any] = {name: sums[name] or 0 for name in SUMS}
    return UsageRow(group=group, **figures)
