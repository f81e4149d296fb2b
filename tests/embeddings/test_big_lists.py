"""Lists of many rows: what a page costs does not depend on how many there are."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from embeddings.console import lists
from embeddings.models import AuditEntry, UsageHour

AUDIT = "/admin/embeddings/auditentry/"
USAGE = "/admin/embeddings/usagehour/"


@pytest.fixture
def console(make_user):
    client = Client()
    client.force_login(make_user("boss", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def entries(db):
    """One a day, the newest today."""
    AuditEntry.objects.bulk_create(
        AuditEntry(
            at=timezone.now() - timedelta(days=number),
            source="api",
            actor=f"user{number % 3}",
            action="change",
            target=f"thing {number}",
        )
        for number in range(120)
    )


def listed(console, address, **query):
    """Return the targets on a page of the audit log."""
    answer = console.get(address, query)
    assert answer.status_code == 200
    return [row.target for row in answer.context_data["cl"].result_list]


@pytest.mark.parametrize(
    ("address", "most"),
    [
        (AUDIT, 4),
        (f"{AUDIT}?q=thing&period=month", 4),
        (USAGE, 6),
        ("/admin/embeddings/enduserday/", 5),
        ("/admin/embeddings/apikey/", 4),
        ("/admin/auth/user/", 4),
    ],
)
def test_queries_are_few_and_none_counts_or_collects_all(
    console, entries, address, most
):
    console.get(address)
    with CaptureQueriesContext(connection) as caught:
        console.get(address)
    statements = [query["sql"] for query in caught]
    assert len(statements) <= most, statements
    for statement in statements:
        assert "DISTINCT" not in statement
        assert "COUNT(" not in statement or "LIMIT" in statement


def test_period_narrows_and_days_are_included(console, entries):
    assert len(listed(console, AUDIT, period="week")) == 7
    today = timezone.now().date()
    days = {"from": (today - timedelta(days=2)).isoformat(), "to": today.isoformat()}
    assert listed(console, AUDIT, **days) == ["thing 0", "thing 1", "thing 2"]


def test_day_that_is_none_is_refused(console, entries):
    answer = console.get(AUDIT, {"from": "yesterday"})
    assert answer.status_code == 302
    assert answer["Location"].endswith("?e=1")


def test_typed_filter_and_search_find_what_they_say(console, entries):
    assert listed(console, AUDIT, actor="user1")[:2] == ["thing 1", "thing 4"]
    assert listed(console, AUDIT, actor="user") == []
    assert listed(console, AUDIT, q="THING 11")[:2] == ["thing 11", "thing 110"]


def test_more_than_are_listed_is_said(console, entries, monkeypatch):
    monkeypatch.setattr(lists, "MOST", 100)
    page = console.get(AUDIT, {"p": 2}).content.decode()
    assert "100+" in page
    assert "choose a period to see others" in page
    assert listed(console, AUDIT, p=2)[-1] == "thing 99"


def test_sums_of_more_rows_than_are_listed_are_left_to_the_charts(
    console, db, monkeypatch
):
    monkeypatch.setattr(lists, "MOST", 1)
    for number in range(2):
        UsageHour.objects.create(
            caller=f"key:{number}", hour=timezone.now(), username="ada"
        )
    page = console.get(USAGE).content.decode()
    assert "/admin/usage/" in page
    assert "are on the page" in page


def test_empty_list_says_what_to_do(console):
    page = console.get(USAGE).content.decode()
    assert "as soon as a caller embeds something" in page
    assert "Create a new item" not in page
    filtered = console.get(AUDIT, {"actor": "nobody"}).content.decode()
    assert "Change the search or the filters" in filtered
