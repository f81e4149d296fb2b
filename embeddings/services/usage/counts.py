"""Counts on their way into the database: one transaction a flush, one UPSERT a row, each adding to what is there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import itemgetter

from django.db import connection, models, transaction

from embeddings.models import EndUserDay, UsageHour
from embeddings.services.callers import Caller

# Names come from clients: what one caller's further users did in a day is summed up in one row.
MAX_END_USERS = 1000
OTHERS = "(others)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where counts belong. `hour`: its first second, since the epoch. No provider: it was never known."""

    hour: int
    provider: str
    model: str


@dataclass(slots=True, kw_only=True)
class Counts:
    """What adds up. `cost` in units of 10^-10 US dollars, so that no sum is ever rounded."""

    requests: int = 0
    errors: int = 0
    tokens: int = 0
    cache_hits: int = 0
    cost: int = 0

    def add(self, other: "Counts") -> None:
        self.requests += other.requests
        self.errors += other.errors
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
        self.places.setdefault(place, Counts()).add(counts)

    def add_end_user(self, name: str, hour: int, counts: Counts) -> None:
        day = datetime.fromtimestamp(hour, UTC).date()
        self.add_end_users({(day, name): counts})

    def add_end_users(self, counted: Mapping[tuple[date, str], Counts]) -> None:
        for (day, name), counts in counted.items():
            full = len(self.end_users) >= MAX_END_USERS
            key = (day, OTHERS if full and (day, name) not in self.end_users else name)
            self.end_users.setdefault(key, Counts()).add(counts)


def store(accounts: Iterable[Account]) -> None:
    """Add all counts, or none. Raises DatabaseError.

    Rows are in the same order in all processes, so that two transactions never wait for each other in a circle.
    """
    accounts = sorted(accounts, key=lambda account: account.caller.id)
    with transaction.atomic():
        add_up(
            UsageHour,
            [row for account in accounts for row in _hours(account)],
            keys=("caller", "hour", "provider", "model"),
            sums=("requests", "errors", "tokens", "cache_hits", "cost"),
            latest=("username", "user_id", "key_id"),
        )
        add_up(
            EndUserDay,
            [row for account in accounts for row in _end_users(account)],
            keys=("caller", "day", "end_user"),
            sums=("requests", "tokens"),
        )


def add_up(
    model: type[models.Model],
    rows: Sequence[models.Model],
    *,
    keys: Sequence[str],
    sums: Sequence[str],
    latest: Sequence[str] = (),
) -> None:
    """Insert `rows`, or add their `sums` to the rows with the same `keys`, in either database that is served."""
    if not rows:
        return
    table = connection.ops.quote_name(model._meta.db_table)
    written = {*keys, *sums, *latest}
    fields = [field for field in model._meta.concrete_fields if field.name in written]
    sets = [f"{name} = {table}.{name} + excluded.{name}" for name in sums]
    sets += [f"{name} = excluded.{name}" for name in latest]
    sql = (
        f"INSERT INTO {table} ({', '.join(field.name for field in fields)})"  # noqa: S608  (names from the model)
        f" VALUES ({', '.join(['%s'] * len(fields))})"
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(sets)}"
    )
    values = [
        [
            field.get_db_prep_save(getattr(row, field.name), connection)
            for field in fields
        ]
        for row in rows
    ]
    with connection.cursor() as cursor:
        cursor.executemany(sql, values)


def _hours(account: Account) -> list[UsageHour]:
    caller = account.caller
    return [
        UsageHour(
            caller=caller.id,
            hour=datetime.fromtimestamp(place.hour, UTC),
            provider=place.provider,
            model=place.model,
            username=caller.username,
            user_id=caller.user_id,
            key_id=caller.key_id,
            requests=counts.requests,
            errors=counts.errors,
            tokens=counts.tokens,
            cache_hits=counts.cache_hits,
            cost=Decimal(counts.cost).scaleb(-10),
        )
        for place, counts in sorted(
            account.places.items(), key=lambda item: astuple(item[0])
        )
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
