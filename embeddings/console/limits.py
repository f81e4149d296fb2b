"""What a key's and a user's page show of limits: those in force, and what of budgets and quotas is used."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from embeddings.access.caller_lookup import LIMIT_NAMES
from embeddings.console.words import count, dollars
from embeddings.services.callers import Caller
from embeddings.services.usage.budgets import BudgetUse, budgets

RATES = ("requests_per_minute", "burst", "tokens_per_minute")
TEMPLATE = "console/limits.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What is used of something that may be limited (`limit` None: it is not). `link`: what is shown at `address`."""

    title: str
    words: str
    used: int | Decimal
    limit: int | Decimal | None
    address: str = ""
    link: str = ""

    @property
    def percent(self) -> int:
        """Return the share that is used; where nothing is allowed, all."""
        if self.limit is None:
            return 0
        return min(100, int(self.used * 100 / self.limit)) if self.limit else 100


def shown_limits(caller: Caller) -> dict[str, Any]:
    """Return what TEMPLATE shows of a caller."""
    return {
        "rates": [_rate(caller, name) for name in LIMIT_NAMES if name in RATES],
        "meters": [_budget(use) for use in budgets().use(caller)],
    }


def _rate(caller: Caller, name: str) -> tuple[str, str]:
    value = getattr(caller.limits, name)
    whose = (
        ""
        if name not in caller.shared_limits or caller.key_id is None
        else ", its user's"
    )
    return (
        name.replace("_", " "),
        "as the server is set" if value is None else f"{count(value)}{whose}",
    )


def _budget(use: BudgetUse) -> Meter:
    most = (
        "without a budget"
        if use.limit is None
        else f"of a budget of {_written(use.what, use.limit)}"
    )
    shared = ", by all keys of the user together" if use.is_shared else ""
    return Meter(
        title=f"{use.what.capitalize()} this month",
        words=f"{_written(use.what, use.used)} used, {most}{shared}",
        used=use.used,
        limit=use.limit,
    )


def _written(what: str, value: Any) -> str:
    return dollars(value) if what == "cost" else count(value)
