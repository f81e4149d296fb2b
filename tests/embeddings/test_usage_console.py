"""The console's usage pages."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from embeddings.models import EndUserDay, UsageHour

URL = "/admin/embeddings/usagehour/"


@pytest.fixture(autouse=True)
def rows(db):
    for model, tokens in (("small", 1000), ("large", 500)):
        UsageHour.objects.create(
            caller="key:7",
            hour=datetime(2026, 1, 1, 10, tzinfo=UTC),
            provider="openai",
            model=model,
            username="anna",
            tokens=tokens,
            cost=Decimal("1.5"),
        )
    EndUserDay.objects.create(
        caller="key:7", day=datetime(2026, 1, 1, tzinfo=UTC), end_user="bob"
    )


def totals(response):
    return dict(response.context_data["totals"])


def test_page_lists_usage_with_its_totals(admin_client):
    response = admin_client.get(URL, {"period": "any"})
    assert totals(response)["tokens"] == "1,500"
    assert totals(response)["cost"] == "$3.00"
    page = response.content.decode()
    assert "1,500" in page
    assert "anna" in page


def test_totals_follow_the_filter(admin_client):
    response = admin_client.get(URL, {"model": "large", "period": "any"})
    assert totals(response)["tokens"] == "500"


def test_usage_is_read_only(admin_client):
    row = UsageHour.objects.first()
    assert row is not None
    assert admin_client.get(f"{URL}add/").status_code == 403
    assert admin_client.post(f"{URL}{row.pk}/change/", {"tokens": 0}).status_code == 403
    assert (
        admin_client.post(f"{URL}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    )
    assert UsageHour.objects.get(pk=row.pk).tokens == row.tokens


def test_end_users_are_listed(admin_client):
    page = admin_client.get("/admin/embeddings/enduserday/?period=any").content.decode()
    assert "bob" in page
