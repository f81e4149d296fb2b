"""Usage as charts and as a table for spreadsheets."""

import csv
import io
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from embeddings.models import UsageHour


@pytest.fixture
def rows(db):
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    for number in range(10):
        for days in (0, 2, 20):
            UsageHour.objects.create(
                caller=f"key:{number}",
                username=f"=user{number}",
                hour=hour - timedelta(days=days),
                provider="openai",
                model=f"m{number}",
                requests=1,
                tokens=100 * (number + 1),
                cost=Decimal("0.25"),
            )


def page(client, **query):
    return client.get("/admin/usage/", query)


def test_models_are_ranked_by_what_is_asked_for(admin_client, rows):
    shown = page(admin_client).content.decode()
    assert shown.index("openai:m9") < shown.index("openai:m0")
    assert "3 others" in shown
    assert ">11,000<" in shown  # two days of the last week


def test_longer_time_shows_more(admin_client, rows):
    assert ">16,500<" in page(admin_client, period="month").content.decode()


def test_callers_are_shown_with_their_names(admin_client, rows):
    shown = page(admin_client, by="caller", measure="cost").content.decode()
    assert "=user3 (key:3)" in shown
    assert "Cost by caller and day" in shown


def test_csv_holds_all_rows_and_no_formulas(admin_client, rows):
    answer = page(admin_client, by="caller", csv="1")
    assert answer["Content-Type"].startswith("text/csv")
    assert 'filename="usage-caller-week.csv"' in answer["Content-Disposition"]
    found = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert len(found) == 10
    assert found[0] == {
        "caller": "key:9",
        "username": "'=user9",
        "requests": "2",
        "errors": "0",
        "tokens": "2000",
        "cache_hits": "0",
        "cost_usd": "0.5",
    }


def test_nonsense_in_the_address_is_the_default(admin_client, rows):
    shown = page(admin_client, period="x", by="y", measure="__class__")
    assert shown.status_code == 200
    assert "Tokens by model" in shown.content.decode()


def test_no_usage_says_what_to_do(admin_client):
    assert "Nobody used anything" in page(admin_client).content.decode()
