"""Monthly budgets: what a caller's tokens and their cost may come to in one month (UTC)."""

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import structlog
from django.db import DatabaseError, InterfaceError
from django.db.models import Sum

from embeddings.models import UsageHour
from embeddings.services.callers import Caller
from embeddings.services.errors import BudgetExhausted
from embeddings.services.usage.ledger import usage
from providers.state.process import owned

# How old the sum of all processes may be; this process's own uncounted use is always added.
FRESH_SECONDS = 5.0
MAX_REMEMBERED = 10_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What one caller has used this month."""

    tokens: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetUse:
    """One monthly budget, or none (`limit` None), and what of it is used. `is_shared`: by all of the user's keys."""

    what: str
    used: int | Decimal
    limit: int | Decimal | None
    is_shared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A sum from the database, and when it was read."""

    used: Used
    month: datetime
    at: float
    flushes: int


class Budgets:
    """Remember the sums of callers with a budget for a few seconds."""

    clock = staticmethod(time.time)
    timer = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._read: dict[str, _Read] = {}

    def check(self, caller: Caller) -> None:
        """Raise BudgetExhausted if nothing is left."""
        limits = caller.limits
        if limits.monthly_tokens is None and limits.monthly_cost_usd is None:
            return
        now = datetime.fromtimestamp(self.clock(), UTC)
        if limits.monthly_tokens is not None:
            used = self._used(caller.limits_owner("monthly_tokens"), month_start(now))
            if used.tokens >= limits.monthly_tokens:
                raise _exhausted(
                    f"{limits.monthly_tokens} tokens", f"{used.tokens}", now=now
                )
        if limits.monthly_cost_usd is not None:
            used = self._used(caller.limits_owner("monthly_cost_usd"), month_start(now))
            if used.cost_usd >= limits.monthly_cost_usd:
                raise _exhausted(
                    f"{limits.monthly_cost_usd:f} US dollars",
                    f"{used.cost_usd:.4f}",
                    now=now,
                )

    def use(self, caller: Caller) -> list[BudgetUse]:
        """Return what is used this month of each budget, by whom the budget is for."""
        month = month_start(datetime.fromtimestamp(self.clock(), UTC))
        budgets = {"monthly_tokens": "tokens", "monthly_cost_usd": "cost_usd"}
        found = []
        for name, measure in budgets.items():
            owner = caller.limits_owner(name)
            found.append(
                BudgetUse(
                    what=measure.partition("_")[0],
                    used=getattr(self._used(owner, month), measure),
                    limit=getattr(caller.limits, name),
                    is_shared=owner != caller.id,
                )
            )
        return found

    def _used(self, owner: str, month: datetime) -> Used:
        # In this order, what is stored meanwhile may be counted twice for a moment, but never not at all.
        pending = usage().pending(owner, since=month.timestamp())
        flushes = usage().flushes
        read = self._read.get(owner)
        if (
            read is None
            or read.month != month
            or read.flushes != flushes
            or self.timer() - read.at > FRESH_SECONDS
        ):
            read = self._look(owner, month, flushes) or read
        stored = (
            read.used
            if read and read.month == month
            else Used(tokens=0, cost_usd=Decimal(0))
        )
        return Used(
            tokens=stored.tokens + pending.tokens,
            cost_usd=stored.cost_usd + Decimal(pending.cost).scaleb(-10),
        )

    def _look(self, owner: str, month: datetime, flushes: int) -> _Read | None:
        """Sum up in the database; None while it is away, since a budget must not be why nothing works."""
        kind, _, number = owner.partition(":")
        whose = {"user_id": int(number)} if kind == "user" else {"caller": owner}
        rows = UsageHour.objects.filter(hour__gte=month, **whose)
        try:
            sums = rows.aggregate(tokens=Sum("tokens"), cost=Sum("cost"))
        except (DatabaseError, InterfaceError) as error:
            log.warning("budget_not_read", reason=type(error).__name__)
            return None
        used = Used(tokens=sums["tokens"] or 0, cost_usd=sums["cost"] or Decimal(0))
        if len(self._read) >= MAX_REMEMBERED:
            self._read.clear()
        self._read[owner] = read = _Read(
            used=used, month=month, at=self.timer(), flushes=flushes
        )
        return read


@owned
def budgets() -> Budgets:
    """Return the process-wide budgets."""
    return Budgets()


def check_budgets(caller: Caller) -> None:
    """Raise BudgetExhausted if one of the caller's monthly budgets is used up."""
    budgets().check(caller)


def month_start(moment: datetime) -> datetime:
    """Return the first moment of the month that `moment` lies in."""
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _exhausted(budget: str, used: str, *, now: datetime) -> BudgetExhausted:
    start = month_start(now)
    renews = start.replace(
        year=start.year + start.month // 12, month=start.month % 12 + 1
    )
    return BudgetExhausted(
        f"The monthly budget of {budget} is used up ({used} used); it renews at {renews:%Y-%m-%dT%H:%M:%SZ}.",
        retry_after_seconds=math.ceil((renews - now).total_seconds()),
    )
