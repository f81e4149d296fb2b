"""What a key's and a user's page show of limits: those in force, and what of the monthly budgets is used."""

from typing import Any

from embeddings.access.caller_lookup import LIMIT_NAMES
from embeddings.console.words import count, dollars
from embeddings.services.callers import Caller
from embeddings.services.usage.budgets import BudgetUse, budgets

RATES = ("requests_per_minute", "burst", "tokens_per_minute")
TEMPLATE = "console/limits.html"


def shown_limits(caller: Caller) -> dict[str, Any]:
    """Return what TEMPLATE shows of a caller."""
    return {
        "rates": [_rate(caller, name) for name in LIMIT_NAMES if name in RATES],
        "budgets": [_budget(use) for use in budgets().use(caller)],
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


def _budget(use: BudgetUse) -> dict[str, Any]:
    most = (
        "without a budget"
        if use.limit is None
        else f"of a budget of {_written(use.what, use.limit)}"
    )
    shared = ", by all keys of the user together" if use.is_shared else ""
    return {
        "title": f"{use.what.capitalize()} this month",
        "percent": use.percent,
        "has_limit": use.limit is not None,
        "words": f"{_written(use.what, use.used)} used, {most}{shared}",
    }


def _written(what: str, value: Any) -> str:
    return dollars(value) if what == "cost" else count(value)
