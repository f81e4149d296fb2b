"""Monthly budgets, with the calendar and the clock in the test's hand."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError

from embeddings.models import UsageHour
from embeddings.services.callers import Caller, CallerLimits
from embeddings.services.errors import BudgetExhausted
from embeddings.services.usage.budgets import FRESH_SECONDS, Budgets
from embeddings.services.usage.ledger import Ledger, usage
from tests.embeddings.services.test_usage import asked, result

NOW = datetime(2026, 12, 30, 12, tzinfo=UTC)


@pytest.fixture
def budgets(db, monkeypatch):
    budgets: Any = Budgets()  # `now` and `uptime` are these tests' own
    budgets.now, budgets.uptime = NOW, 100.0
    monkeypatch.setattr(Budgets, "clock", lambda self: self.now.timestamp())
    monkeypatch.setattr(Budgets, "timer", lambda self: self.uptime)
    monkeypatch.setattr(Ledger, "clock", lambda self: budgets.now.timestamp())
    return budgets


def anna(**limits):
    return Caller(
        id="key:7", username="anna", is_admin=False, limits=CallerLimits(**limits)
    )


def used_elsewhere(*, tokens, cost=0, hour=NOW, caller="key:7"):
    UsageHour.objects.create(
        caller=caller, hour=hour, username="anna", tokens=tokens, cost=cost
    )


def test_no_budget_asks_nothing(budgets, django_assert_num_queries):
    with django_assert_num_queries(0):
        budgets.check(anna())


def test_tokens_of_all_processes_count(budgets):
    used_elsewhere(tokens=95)
    budgets.check(anna(monthly_tokens=100))
    usage().answered(asked(anna()), result(tokens=5))
    with pytest.raises(BudgetExhausted, match="100 tokens is used up"):
        budgets.check(anna(monthly_tokens=100))


@pytest.mark.parametrize("limit", ["monthly_tokens", "monthly_cost_usd"])
def test_a_user_s_budget_is_used_up_by_all_its_keys_together(budgets, limit):
    limits: dict[str, Any] = {limit: 100}

    def key(number, **changes):
        return Caller(
            id=f"key:{number}",
            username="anna",
            is_admin=False,
            user_id=3,
            key_id=number,
            limits=CallerLimits(**limits),
            **changes,
        )

    shared = {"shared_limits": frozenset({limit})}
    UsageHour.objects.create(
        caller="key:7", hour=NOW, username="anna", user_id=3, tokens=60, cost=60
    )
    spent = result(tokens=40, computed=40, price=1_000_000)  # a dollar a token
    usage().answered(asked(key(8, **shared)), spent)
    for number in (7, 8, 9):
        with pytest.raises(BudgetExhausted):
            budgets.check(key(number, **shared))
    budgets.check(key(7))  # a budget of the key's own is its own


def test_cost_counts(budgets):
    used_elsewhere(tokens=1, cost=Decimal("1.99"))
    budgets.check(anna(monthly_cost_usd=Decimal(2)))
    usage().answered(asked(anna()), result(computed=500_000, price=0.02))
    with pytest.raises(BudgetExhausted, match="2 US dollars"):
        budgets.check(anna(monthly_cost_usd=Decimal(2)))


def test_others_and_other_months_do_not_count(budgets):
    used_elsewhere(tokens=100, caller="key:8")
    used_elsewhere(tokens=100, hour=datetime(2026, 11, 30, 23, tzinfo=UTC))
    used_elsewhere(tokens=99, hour=datetime(2026, 12, 1, 0, tzinfo=UTC))
    budgets.check(anna(monthly_tokens=100))
    usage().answered(asked(anna()), result(tokens=1))
    with pytest.raises(BudgetExhausted, match=r"\(100 used\)"):
        budgets.check(anna(monthly_tokens=100))


def test_refusal_says_when_the_budget_renews(budgets):
    used_elsewhere(tokens=100)
    with pytest.raises(BudgetExhausted) as caught:
        budgets.check(anna(monthly_tokens=100))
    assert caught.value.code == "insufficient_quota"
    assert "renews at 2027-01-01T00:00:00Z" in caught.value.message
    assert caught.value.retry_after_seconds == 36 * 3600


def test_budget_renews_with_the_month(budgets):
    used_elsewhere(tokens=100)
    with pytest.raises(BudgetExhausted) as caught:
        budgets.check(anna(monthly_tokens=100))
    budgets.now = datetime.fromtimestamp(
        NOW.timestamp() + caught.value.retry_after_seconds, UTC
    )
    budgets.check(anna(monthly_tokens=100))


def test_database_is_asked_every_few_seconds_only(budgets, django_assert_num_queries):
    budgets.check(anna(monthly_tokens=100))
    used_elsewhere(tokens=100)
    with django_assert_num_queries(0):
        budgets.check(anna(monthly_tokens=100))
    budgets.uptime += FRESH_SECONDS + 0.1
    with pytest.raises(BudgetExhausted):
        budgets.check(anna(monthly_tokens=100))


def test_what_this_process_just_stored_is_never_missed(budgets):
    budgets.check(anna(monthly_tokens=10))
    usage().answered(asked(anna()), result(tokens=10))
    assert usage().flush()
    with pytest.raises(BudgetExhausted):
        budgets.check(anna(monthly_tokens=10))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_is_stored_while_a_budget_is_looked_up_is_never_missed(
    budgets, monkeypatch, moment
):
    """It leaves the process's own counts, and is not yet in the sum that was read from the database."""
    budgets.check(anna(monthly_tokens=10))
    usage().answered(asked(anna()), result(tokens=10))
    look = Ledger.pending

    def look_while_it_is_stored(ledger, owner, *, since):
        if moment == "before":
            assert ledger.flush()
        found = look(ledger, owner, since=since)
        if moment == "after":
            assert ledger.flush()
        return found

    monkeypatch.setattr(Ledger, "pending", look_while_it_is_stored)
    with pytest.raises(BudgetExhausted):
        budgets.check(anna(monthly_tokens=10))


def away(*args, **kwargs):
    raise DatabaseError("away")


def test_database_that_is_away_leaves_what_was_last_read(budgets, monkeypatch):
    used_elsewhere(tokens=9)
    budgets.check(anna(monthly_tokens=10))
    monkeypatch.setattr("django.db.models.QuerySet.aggregate", away)
    budgets.uptime += FRESH_SECONDS + 0.1
    usage().answered(asked(anna()), result(tokens=1))
    with pytest.raises(BudgetExhausted):
        budgets.check(anna(monthly_tokens=10))


def test_new_month_is_looked_up_at_once(budgets):
    used_elsewhere(tokens=1)
    budgets.check(anna(monthly_tokens=10))
    budgets.now = datetime(2027, 1, 1, tzinfo=UTC)
    used_elsewhere(tokens=10, hour=budgets.now)
    with pytest.raises(BudgetExhausted):
        budgets.check(anna(monthly_tokens=10))


def test_database_that_is_away_stops_nobody(budgets, monkeypatch):
    monkeypatch.setattr("django.db.models.QuerySet.aggregate", away)
    budgets.check(anna(monthly_tokens=10))
    usage().answered(asked(anna()), result(tokens=10))
    with pytest.raises(BudgetExhausted):
        budgets.check(anna(monthly_tokens=10))
