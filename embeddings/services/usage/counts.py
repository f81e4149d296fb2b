"""Counts on their way into the database: one transaction a flush, one UPSERT a row, each adding to what is there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import itemgetter
from typing import NamedTuple

from embeddings.models import EndUserDay, UsageHour
from embeddings.services.callers import Caller
from embeddings.services.usage.commits import Commit
from embeddings.services.usage.traffic import TrafficCounts
from embeddings.services.usage.upserts import add_up

# Names come from clients: what one caller's further users did in a day is summed up in one row.
MAX_END_USERS = 1000
OTHERS = "(others)"


class Place(NamedTuple):
    """Where counts belong. `hour`: its first second, since the epoch. No provider: it was never known.

    `asked`: what was asked for, where that is known.
    """

    hour: int
    provider: str
    model: str
    asked: str = ""


@dataclass(slots=True, kw_only=True)
class Counts:
    """What adds up. `cost` in units of 10^-10 US dollars, so that no sum is ever rounded."""

    requests: int = 0
    errors: int = 0
    texts: int = 0
    tokens: int = 0
    cache_hits: int = 0
    cost: int = 0

    def add(self, other: "Counts") -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.texts += other.texts
        self.tokens += other.tokens
        self.cache_hits += other.cache_hits
        self.cost += other.cost


@dataclass(slots=True, kw_only=True)
class Account:
    """One caller's counts: by place, and by day and end user (bounded)."""

    caller: Caller
    places: dict[Place, Counts] = field(default_factory=dict)
    end_users: dict[tuple[date, str], Counts] = field(default_factory=dict)

    def add(self, place: Place, counts: Counts) -> None:
        known = self.places.get(place)
        if known is None:
            self.places[place] = known = Counts()
        known.add(counts)

    def add_end_user(self, name: str, hour: int, counts: Counts) -> None:
        day = datetime.fromtimestamp(hour, UTC).date()
        self.add_end_users({(day, name): counts})

    def add_end_users(self, counted: Mapping[tuple[date, str], Counts]) -> None:
        for (day, name), counts in counted.items():
            full = len(self.end_users) >= MAX_END_USERS
            key = (day, OTHERS if full and (day, name) not in self.end_users else name)
            self.end_users.setdefault(key, Counts()).add(counts)


def store(accounts: Iterable[Account], traffic: TrafficCounts, commit: Commit) -> None:
    """Add all counts, or none. Raises DatabaseError; `commit` may then be in doubt.

    Rows are in the same order in all processes, so that two transactions never wait for each other in a circle.
    """
    accounts = sorted(accounts, key=lambda account: account.caller.id)
    with commit.atomic():
        traffic.store()
        add_up(
            UsageHour,
            [row for account in accounts for row in _hours(account)],
            keys=("caller", "hour", "provider", "model", "asked"),
            sums=("requests", "errors", "texts", "tokens", "cache_hits", "cost"),
            latest=("username", "user_id", "key_id"),
        )
        add_up(
            EndUserDay,
            [row for account in accounts for row in _end_users(account)],
            keys=("caller", "day", "end_user"),
            sums=("requests", "tokens"),
        )


def _hours(account: Account) -> list[UsageHour]:
    caller = account.caller
    return [
        UsageHour(
            caller=caller.id,
            hour=datetime.fromtimestamp(place.hour, UTC),
            provider=place.provider,
            model=place.model,
            asked=place.asked,
            username=caller.username,
            user_id=caller.user_id,
            key_id=caller.key_id,
            requests=counts.requests,
            errors=counts.errors,
            texts=counts.texts,
            tokens=counts.tokens,
            cache_hits=counts.cache_hits,
            cost=Decimal(counts.cost).scaleb(-10),
        )
        for place, counts in sorted(account.places.items(), key=itemgetter(0))
    ]


def _end_users(account: Account) -> list[EndUserDay]:
    """Return the rows to add; names beyond what a caller may have in a day share one."""
    known: dict[date, set[str]] = {}
    merged: dict[tuple[date, str], Counts] = {}
    for (day, name), counts in account.end_users.items():
        if day not in known:
            rows = EndUserDay.objects.filter(caller=account.caller.id, day=day)
            known[day] = set(
                rows.values_list("end_user", flat=True)[: MAX_END_USERS + 1]
            )
        full = len(known[day]) >= MAX_END_USERS
        kept = OTHERS if full and name not in known[day] else name
        known[day].add(kept)
        merged.setdefault((day, kept), Counts()).add(counts)
    return [
        EndUserDay(
            caller=account.caller.id,
            day=day,
            end_user=name,
            requests=counts.requests,
            tokens=counts.tokens,
        )
        for (day, name), counts in sorted(merged.items(), key=itemgetter(0))
    ]
