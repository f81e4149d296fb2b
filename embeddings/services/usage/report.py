"""Usage summed up for a report: by hour, day, model or caller."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from django.db.models import Aggregate, Max, Q, QuerySet, Sum
from django.db.models.functions import TruncDay

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
