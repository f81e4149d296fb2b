"""The first page of the console."""

import json
import re
import shutil
from collections import namedtuple
from datetime import timedelta

import pytest
from django.utils import timezone

from embeddings.models import ProcessBeat
from embeddings.services.usage.ledger import usage
from providers.models import Breaker
from tests.fakes import MINILM


def shown(client, **query):
    return client.get("/admin/", query).content.decode()


def figures(client, **query):
    """Return the figures of the page by their names."""
    found = re.findall(r"<dt>(.*?)</dt><dd>(.*?) <small>", shown(client, **query))
    return dict(found)


def chart(page, name):
    data = re.search(
        rf'<script id="{name}" type="application/json">(.*?)</script>', page
    )
    assert data, f"no chart {name}"
    return json.loads(data[1])


@pytest.fixture
def traffic(post):
    post({"input": ["a b", "c"], "model": "text-embedding-3-small"})
    post({"input": ["a b"], "model": f"huggingface:{MINILM}"})
    post({"input": "", "model": f"onnx:{MINILM}"})


def test_figures_say_what_was_asked_and_answered(admin_client, traffic):
    found = figures(admin_client)
    assert (found["Requests"], found["Errors"], found["Fallbacks"]) == ("3", "1", "1")
    assert found["From the cache"] == "33.3 %"
    assert found["Time, median"].endswith("ms")


def test_charts_hold_the_same_figures(admin_client, traffic):
    page = shown(admin_client)
    answered, failed = chart(page, "requests")["series"]
    assert (sum(answered["values"]), sum(failed["values"])) == (2, 1)
    assert [one["name"] for one in chart(page, "errors")["series"]] == ["400"]
    assert len(chart(page, "requests")["labels"]) == 60


@pytest.mark.parametrize(
    ("period", "steps"), [("hour", 60), ("day", 96), ("week", 56), ("month", 60)]
)
def test_period_can_be_chosen(admin_client, traffic, period, steps):
    page = shown(admin_client, period=period)
    assert len(chart(page, "requests")["labels"]) == steps
    assert f'href="?period={period}" aria-current="page"' in page


def test_period_that_there_is_not_is_the_last_hour(admin_client, traffic):
    page = shown(admin_client, period="<script>")
    assert len(chart(page, "requests")["labels"]) == 60


def test_fallbacks_are_named(admin_client, traffic):
    page = shown(admin_client)
    row = page.index("openai:text-embedding-3-small")
    assert "fallback" in page[row : row + 300]


def test_page_without_traffic_says_what_to_do(admin_client):
    assert "No requests yet" in shown(admin_client)


def test_open_breaker_is_shown_with_its_error_and_a_button(admin_client):
    Breaker.objects.create(provider="openai", state="open", last_error="<b>away</b>")
    page = shown(admin_client)
    assert "Close openai" in page
    assert "&lt;b&gt;away&lt;/b&gt;" in page
    assert "<b>away" not in page


def test_reader_without_permissions_sees_no_figures(make_user, client):
    client.force_login(make_user("keyman", is_staff=True))
    page = shown(client)
    assert "<dt>Requests</dt>" not in page
    assert "Circuit breakers</h2>" not in page


def test_query_count_does_not_grow_with_the_rows(
    admin_client, traffic, django_assert_max_num_queries
):
    usage().flush()
    with django_assert_max_num_queries(25):
        shown(admin_client)


# Processes.


def beat(role, pid, *, seconds_ago=0, **detail):
    now = timezone.now()
    ProcessBeat.objects.create(
        host="somewhere",
        pid=pid,
        role=role,
        started_at=now - timedelta(hours=2),
        beat_at=now - timedelta(seconds=seconds_ago),
        memory_bytes=100 * 2**20,
        detail=detail,
    )


def test_processes_are_listed_with_their_models(admin_client):
    model = {"model": MINILM, "precision": "fast", "size_bytes": 23 * 2**20}
    beat("engine", 7, models=[model])
    page = shown(admin_client)
    assert "engine 7" in page
    assert f"{MINILM} (fast, 23.0" in page


def test_silent_process_is_said_to_be(admin_client):
    beat("web", 9, seconds_ago=100)
    page = shown(admin_client)
    assert "silent since" in page
    assert "web 9 on somewhere" in page


# Hints.


def test_hint_about_a_missing_worker_goes_when_one_runs(admin_client):
    assert "No worker runs" in shown(admin_client)
    beat("worker", 11)
    assert "No worker runs" not in shown(admin_client)


def test_hint_about_keys_goes_when_a_provider_has_one(admin_client, fakes):
    fakes["openai"].problem = "no key"
    assert "No remote provider has a key" in shown(admin_client)
    fakes["openai"].problem = None
    assert "No remote provider has a key" not in shown(admin_client)


def test_hint_about_the_disk(admin_client, monkeypatch):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**9))
    assert "nearly full: 0.9 GiB are free" in shown(admin_client)
