"""What charts and the log of requests show: counted in memory, added up in the database, kept for so long."""

from dataclasses import replace
from decimal import Decimal

import pytest
from django.conf import settings
from django.db import DatabaseError

from embeddings.models import (
    HOUR,
    MINUTE,
    LatencyCount,
    Level,
    LoggedRequest,
    Traffic,
    UsageHour,
)
from embeddings.services.callers import Caller
from embeddings.services.usage import ledger as ledger_module
from embeddings.services.usage import retention, traffic
from embeddings.services.usage.events import Event
from embeddings.services.usage.history import (
    PERIODS,
    level_history,
    times_history,
    traffic_history,
)
from embeddings.services.usage.ledger import Ledger, usage
from embeddings.services.usage.upserts import add_up
from providers.exceptions import ProviderUnavailable
from tests.fakes import MINILM

NOON = 1_790_000_000 // 86400 * 86400 + 12 * 3600
ANNA = Caller(id="key:7", username="anna", is_admin=False, user_id=3, key_id=7)
LOCAL = f"onnx:{MINILM}"


@pytest.fixture
def ledger(db):
    return Ledger(flush_seconds=0)


def event(at=NOON, *, seconds=0.02, **given):
    fields = {
        "endpoint": "POST /api/v1/embeddings",
        "caller": ANNA,
        "asked": LOCAL,
        "provider": "onnx",
        "model": MINILM,
        "texts": 2,
        "tokens": 10,
        "cache_hits": 1,
        "cost": 5,
        "stages": {"queue": 0.002, "infer": 0.01},
        **given,
    }
    return Event(at=at, seconds=seconds, **fields)


def failed(at=NOON, status=429, code="rate_limit_exceeded"):
    return Event(at=at, endpoint="POST /api/v1/embeddings", status=status, code=code)


def conf_of(**changes):
    return replace(settings.EMBEDDINGS, **changes)


def test_events_add_up_by_the_minute_and_by_the_hour(ledger):
    for at in (NOON, NOON + 59, NOON + 60):
        ledger.record(event(at))
    assert ledger.flush()
    ledger.record(event(NOON + 30))
    assert ledger.flush()
    rows = Traffic.objects.order_by("span", "start")
    figures = ("span", "start", "requests", "texts", "tokens", "cache_hits", "cost")
    assert list(rows.values_list(*figures)) == [
        (MINUTE, NOON, 3, 6, 30, 3, Decimal("0.0000000015")),
        (MINUTE, NOON + 60, 1, 2, 10, 1, Decimal("0.0000000005")),
        (HOUR, NOON, 4, 8, 40, 4, Decimal("0.0000000020")),
    ]


def test_request_that_failed_has_its_status_and_code_and_no_time(ledger):
    ledger.record(failed())
    ledger.record(failed(status=401, code=""))
    ledger.flush()
    outcomes = Traffic.objects.filter(span=MINUTE).values_list("outcome", flat=True)
    assert sorted(outcomes) == ["401", "429 rate_limit_exceeded"]
    assert not LatencyCount.objects.exists()


def test_times_are_counted_by_stage(ledger):
    ledger.record(event())
    ledger.record(event(seconds=100))
    ledger.flush()
    rows = LatencyCount.objects.filter(span=HOUR)
    assert {row.stage: row.requests for row in rows if row.stage != "total"} == {
        "queue": 2,
        "infer": 2,
    }
    buckets = rows.filter(stage="total").values_list("bucket", flat=True)
    assert sorted(buckets) == [5, 16]  # up to 25 ms, and beyond the last bound


def test_what_could_not_be_stored_is_stored_the_next_time(ledger, monkeypatch):
    ledger.record(event())
    ledger.record(failed())

    def away(*args):
        raise DatabaseError("away")

    with monkeypatch.context() as broken:
        broken.setattr(ledger_module, "store", away)
        assert not ledger.flush()
    ledger.record(event())
    assert ledger.flush()
    assert Traffic.objects.get(span=MINUTE, outcome="").requests == 2
    assert Traffic.objects.get(span=MINUTE, outcome__gt="").requests == 1
    assert LatencyCount.objects.get(span=MINUTE, stage="total").requests == 2
    assert LoggedRequest.objects.count() == 3


def test_memory_is_bounded_while_the_database_is_away(ledger, monkeypatch):
    monkeypatch.setattr(traffic, "MAX_SLOTS", 3)
    monkeypatch.setattr(traffic, "MAX_LOGGED", 2)
    ledger = Ledger(flush_seconds=0)
    for number in range(10):
        ledger.record(event(model=f"m{number}"))
    ledger.flush()
    rows = Traffic.objects.filter(span=MINUTE)
    assert rows.count() == 4
    assert rows.get(endpoint=traffic.OTHERS).requests == 7
    models = LoggedRequest.objects.values_list("model", flat=True)
    assert list(models) == ["m1", "m0"]


def test_log_names_caller_time_and_stages_and_no_text(ledger):
    ledger.record(event(request_id="abc"))
    ledger.flush()
    row = LoggedRequest.objects.get()
    assert (row.request_id, row.username, row.caller) == ("abc", "anna", "key:7")
    assert (row.milliseconds, row.stages) == (20, {"queue": 2, "infer": 10})


def test_log_can_be_switched_off(ledger, settings):
    settings.EMBEDDINGS = conf_of(request_log=0)
    ledger.record(event())
    ledger.flush()
    assert not LoggedRequest.objects.exists()


def test_old_minutes_and_hours_go_and_the_last_requests_stay(ledger, settings):
    settings.EMBEDDINGS = conf_of(traffic_minute_days=2, traffic_days=10, request_log=3)
    for days in (0, 1, 5, 20):
        ledger.record(event(NOON - days * 86400, request_id=str(days)))
    ledger.flush()
    retention.cut(now=NOON + 10)
    assert Traffic.objects.filter(span=MINUTE).count() == 2
    assert Traffic.objects.filter(span=HOUR).count() == 3
    assert not LatencyCount.objects.filter(span=HOUR, start__lt=NOON - 10 * 86400)
    ids = LoggedRequest.objects.values_list("request_id", flat=True)
    assert set(ids) == {"0", "1", "5"}  # the oldest was the first of the log


def test_hours_can_be_kept_for_ever(ledger, settings):
    settings.EMBEDDINGS = conf_of(traffic_days=0)
    ledger.record(event(NOON - 900 * 86400))
    ledger.flush()
    retention.cut(now=NOON)
    assert Traffic.objects.filter(span=HOUR).exists()


# As charts show it.


@pytest.mark.parametrize("name", PERIODS)
def test_history_has_every_step_up_to_now(ledger, name):
    period = PERIODS[name]
    ledger.record(event(NOON))
    ledger.record(event(NOON - period.seconds))
    ledger.flush()
    history = traffic_history(period, now=NOON + 30)
    assert len(history.steps) == period.seconds // period.step
    assert history.steps[-1] <= NOON + 30 < history.steps[-1] + period.step
    assert [one.answered for one in history.figures[-2:]] == [0, 1]
    assert history.total.answered == 1


def test_history_knows_rates_and_fallbacks(ledger):
    ledger.record(event())
    ledger.record(event(asked="openai:text-embedding-3-small"))
    ledger.record(failed())
    ledger.record(Event(at=NOON, endpoint="GET /api/v1/models"))  # no vectors
    ledger.flush()
    history = traffic_history(PERIODS["hour"], now=NOON)
    total = history.total
    assert (total.requests, total.answered, total.errors) == (3, 2, 1)
    assert (total.fallbacks, total.hit_rate, total.error_rate) == (1, 0.5, 1 / 3)
    assert history.outcomes["429 rate_limit_exceeded"][-1] == 1
    assert history.models["openai:text-embedding-3-small", LOCAL].answered == 1


def test_history_of_nothing_has_no_rates(db):
    history = traffic_history(PERIODS["day"], now=NOON)
    assert (history.total.hit_rate, history.total.error_rate) == (None, None)
    assert times_history(PERIODS["day"], now=NOON) == {}


def test_percentiles_lie_within_their_buckets(ledger):
    for _ in range(98):
        ledger.record(event(seconds=0.02))
    ledger.record(event(seconds=2))
    ledger.record(event(seconds=2))
    ledger.flush()
    times = times_history(PERIODS["hour"], now=NOON)
    assert next(iter(times)) == "total"
    total = times["total"].total
    assert 10 < (total[50] or 0) < 25
    assert 1000 < (total[99] or 0) <= 2500
    assert times["total"].steps[50][-1] == total[50]
    assert times["total"].steps[50][0] is None


def test_levels_keep_the_highest_sample(db):
    for value in (3.0, 9.0, 5.0):
        row = Level(name="queue", start=NOON, span=MINUTE, samples=1, total=value, highest=value)  # fmt: skip
        add_up(
            Level,
            [row],
            keys=("start", "span", "name"),
            sums=("samples", "total"),
            highest=("highest",),
        )
    _, highest = level_history("queue", PERIODS["hour"], now=NOON)
    assert highest[-1] == 9
    assert highest[0] is None
    row = Level.objects.get()
    assert (row.samples, row.total) == (3, 17)


# From the request to the row.


def test_request_leaves_a_record_of_what_was_asked_and_what_answered(post):
    answer = post({"input": ["a b", "c"], "model": "text-embedding-3-small"})
    usage().flush()
    row = LoggedRequest.objects.get()
    assert row.endpoint == "POST /api/v1/embeddings"
    assert row.asked == "openai:text-embedding-3-small"
    assert (row.provider, row.model) == ("huggingface", MINILM)
    assert (row.status, row.code, row.texts) == (200, "", 2)
    assert row.request_id == answer["X-Request-ID"]
    assert row.milliseconds > 0
    hour = UsageHour.objects.get()
    assert (hour.asked, hour.texts) == (row.asked, 2)


def test_refused_key_leaves_a_record_without_a_caller(client, db):
    client.post(
        "/api/v1/embeddings",
        {"input": "a"},
        format="json",
        headers={"X-API-KEY": "wrong-wrong-wrong"},
    )
    usage().flush()
    row = LoggedRequest.objects.get()
    assert (row.status, row.code, row.username) == (401, "invalid_api_key", "")


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"input": ""}, "400"),
        ({"input": "a", "model": "onnx:acme-9"}, "404 model_not_found"),
        ({"input": "a " * 500}, "400 input_too_long"),
    ],
)
def test_refused_request_is_counted_by_its_reason(post, body, outcome):
    post({"model": LOCAL, **body})
    usage().flush()
    assert Traffic.objects.get(span=MINUTE).outcome == outcome


def test_failure_of_every_provider_is_counted_at_what_was_asked(post, fakes):
    for fake in fakes.values():
        fake.fault = ProviderUnavailable("away")
    post({"input": "a", "model": LOCAL})
    usage().flush()
    row = Traffic.objects.get(span=MINUTE)
    assert row.outcome.startswith("503")
    assert (row.asked, row.provider) == (LOCAL, "")


def test_paths_and_methods_of_clients_make_no_rows_of_their_own(client, fakes):
    for path in ("/api/v1/nothing-1", "/api/v1/nothing-2"):
        client.get(path)
    client.generic("BREW", "/api/v1/nothing-1")
    for name in ("one", "two"):
        client.get(f"/api/v1/models/{name}")
    usage().flush()
    names = Traffic.objects.filter(span=MINUTE).values_list("endpoint", flat=True)
    assert set(names) == {"GET", "other", "GET /api/v1/models/{model_id}"}
