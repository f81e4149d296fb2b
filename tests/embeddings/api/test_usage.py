"""`GET /usage`: one's own use, all use for admins, as JSON and CSV."""

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from rest_framework.test import APIClient

from embeddings.models import UsageHour
from embeddings.services.callers import Caller
from tests.fakes import MINILM

URL = "/api/v1/usage"
JANUARY = {"from": "2026-01-01", "to": "2026-01-31"}
ANNA = Caller(id="user:3", username="anna", is_admin=False, user_id=3)
KEY = Caller(id="key:7", username="anna", is_admin=False, user_id=3, key_id=7)
ADMIN = Caller(
    id="user:1", username="root", is_admin=True, is_superuser=True, user_id=1
)


@pytest.fixture(autouse=True)
def rows(db):
    """January of anna (user:3), of her key, and of somebody else."""
    for caller, user_id, key_id, day, hour, model in (
        ("user:3", 3, None, 1, 10, "small"),
        ("user:3", 3, None, 1, 11, "large"),
        ("key:7", 3, 7, 2, 10, "small"),
        ("user:4", 4, None, 2, 10, "small"),
    ):
        UsageHour.objects.create(
            caller=caller,
            hour=datetime(2026, 1, day, hour, tzinfo=UTC),
            provider="openai",
            model=model,
            username="anna" if user_id == 3 else "=eve",
            user_id=user_id,
            key_id=key_id,
            requests=2,
            errors=1,
            tokens=100,
            cache_hits=3,
            cost=Decimal("0.0000125"),
        )


@pytest.fixture
def ask(monkeypatch):
    """Return a function that asks as a caller of its choice."""

    def get(who=ADMIN, headers=None, **query):
        user: Any = SimpleNamespace(
            is_authenticated=True, is_active=True, is_staff=who.is_admin, pk=None
        )
        client = APIClient()
        client.force_authenticate(user, who)
        return client.get(URL, query, headers=headers)

    return get


def column(response, name):
    return [row[name] for row in response.json()["data"]]


def test_admin_sees_all_by_day(ask):
    body = ask(**JANUARY).json()
    assert body["from"] == "2026-01-01T00:00:00Z"
    assert body["to"] == "2026-02-01T00:00:00Z"
    assert body["group_by"] == "day"
    assert body["data"] == [
        {
            "day": f"2026-01-0{day}",
            "requests": 4,
            "errors": 2,
            "tokens": 200,
            "cache_hits": 6,
            "cost_usd": 0.000025,
        }
        for day in (1, 2)
    ]
    assert body["total"]["requests"] == 8
    assert body["total"]["cost_usd"] == 0.00005


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        (
            "hour",
            [
                {"hour": "2026-01-01T10:00:00Z", "tokens": 100},
                {"hour": "2026-01-01T11:00:00Z", "tokens": 100},
                {"hour": "2026-01-02T10:00:00Z", "tokens": 200},
            ],
        ),
        (
            "model",
            [
                {"provider": "openai", "model": "large", "tokens": 100},
                {"provider": "openai", "model": "small", "tokens": 300},
            ],
        ),
        (
            "caller",
            [
                {"caller": "key:7", "username": "anna", "key_id": 7, "tokens": 100},
                {"caller": "user:3", "username": "anna", "key_id": None, "tokens": 200},
                {"caller": "user:4", "username": "=eve", "key_id": None, "tokens": 100},
            ],
        ),
    ],
)
def test_groups(ask, group_by, expected):
    data = ask(**JANUARY, group_by=group_by).json()["data"]
    left_out = ("requests", "errors", "cache_hits", "cost_usd")
    shown = [{k: v for k, v in row.items() if k not in left_out} for row in data]
    assert shown == expected


def test_user_sees_its_own_and_its_keys_use(ask):
    answer = ask(ANNA, **JANUARY, group_by="caller")
    assert column(answer, "caller") == ["key:7", "user:3"]
    answer = ask(ANNA, **JANUARY, group_by="caller", caller="key:7")
    assert column(answer, "caller") == ["key:7"]


def test_key_sees_its_own_use_alone(ask):
    assert column(ask(KEY, **JANUARY, group_by="caller"), "caller") == ["key:7"]
    assert ask(KEY, **JANUARY, caller="user:3").status_code == 403


@pytest.mark.parametrize("other", ["user:4", "user:99"])
def test_other_callers_are_for_admins(ask, other):
    response = ask(ANNA, **JANUARY, caller=other)
    assert response.status_code == 403
    assert response.json()["error"]["type"] == "permission_error"
    assert ask(ADMIN, **JANUARY, caller=other).status_code == 200


def test_stranger_is_401():
    assert APIClient().get(URL).status_code == 401


@pytest.mark.parametrize(
    ("period", "requests"),
    [
        ({"from": "2026-01-02", "to": "2026-01-02"}, 4),
        ({"from": "2026-01-01T11:00:00Z", "to": "2026-01-02T10:00:00Z"}, 2),
        ({"from": "2026-01-01T12:00:00+01:00", "to": "2026-01-01T13:00:00+01:00"}, 2),
        ({"to": "2026-01-31"}, 8),
        ({"from": "2025-01-01"}, 8),
        ({}, 0),
    ],
)
def test_period_begins_with_from_and_ends_before_to(ask, period, requests):
    assert ask(**period).json()["total"]["requests"] == requests


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-13-01"}, "to"),
        ({"from": "9999-12-31", "to": "9999-12-31"}, "to"),
        ({"to": "0001-01-01T00:00:00Z"}, "to"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "from"),
        ({"from": "2026-02-01", "to": "2026-01-01"}, "from"),
        ({"group_by": "user"}, "group_by"),
        ({"caller": "x" * 65}, "caller"),
        ({"caller": "a\0b"}, "caller"),
    ],
)
def test_nonsense_is_400_and_names_the_parameter(ask, query, param):
    response = ask(**query)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "how", [{"format": "csv"}, {"headers": {"Accept": "text/csv"}}]
)
def test_csv(ask, how):
    response = ask(**JANUARY, group_by="caller", **how)
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(io.StringIO(response.content.decode())))
    assert lines[0] == {
        "caller": "key:7",
        "username": "anna",
        "key_id": "7",
        "requests": "2",
        "errors": "1",
        "tokens": "100",
        "cache_hits": "3",
        "cost_usd": "0.0000125",
    }


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_name_is_a_formula_to_a_spreadsheet(ask, start):
    UsageHour.objects.filter(caller="user:4").update(username=f"{start}SUM(A1)")
    content = ask(**JANUARY, group_by="caller", format="csv").content.decode()
    lines = list(csv.DictReader(io.StringIO(content, newline="")))
    assert lines[2]["username"] == f"'{start}SUM(A1)"


def test_empty_csv_has_its_header(ask):
    assert (
        ask(format="csv").content
        == b"day,requests,errors,tokens,cache_hits,cost_usd\r\n"
    )


def test_error_of_a_csv_request_is_json(ask):
    response = ask(format="csv", group_by="user")
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/json"
    assert response.json()["error"]["param"] == "group_by"


def test_use_is_shown_at_once_where_one_process_serves(post, client):
    for _ in range(2):
        post({"input": "a b", "model": f"onnx:{MINILM}"})
    total = client.get(URL).json()["total"]
    assert (total["requests"], total["tokens"], total["cache_hits"]) == (2, 4, 1)


def test_cost_of_nothing_is_written_as_every_other_cost(ask):
    report = ask(**{"from": "2020-01-01", "to": "2020-01-02"}).content.decode()
    assert report.endswith('"cost_usd":0.0}}')
