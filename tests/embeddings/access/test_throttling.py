"""The limiter as clients of the embeddings endpoints meet it."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import psutil
import pytest
from rest_framework.test import APIClient

from embeddings.access.limiter.limiter import Limiter, limiter
from embeddings.access.limiter.sqlite_buckets import SqliteBuckets
from embeddings.access.throttling import duration
from embeddings.services.callers import SINGLE_USER, CallerLimits
from embeddings.services.usage.ledger import usage
from providers.state import process
from tests.embeddings.access.limiter.conftest import SECOND, Clock
from tests.fakes import MINILM

MODEL = f"onnx:{MINILM}"
BODY = {"input": "one two three", "model": MODEL}


@pytest.fixture
def clock():
    return Clock()


def open_files():
    return {file.path for file in psutil.Process().open_files()}


def use(monkeypatch, store):
    own = Limiter(store)
    monkeypatch.setattr("embeddings.access.throttling.limiter", lambda: own)


@pytest.fixture(autouse=True)
def own_limiter(monkeypatch, settings, configure, tmp_path, clock):
    """Take part, with a bucket of three that refills once a second."""
    configure(
        limiter=replace(
            settings.EMBEDDINGS.limiter, embeddings=True, per_minute=60, burst=3
        )
    )
    store = SqliteBuckets(tmp_path / "limiter.sqlite3", clock=clock)
    use(monkeypatch, store)
    yield
    store.close()


@pytest.fixture
def limits(monkeypatch):
    """Return a function that gives the caller limits of its own."""

    def give(**values):
        caller = replace(SINGLE_USER, limits=CallerLimits(**values))
        monkeypatch.setattr("embeddings.access.authentication.SINGLE_USER", caller)

    return give


def rate_headers(response, kind="requests"):
    return tuple(
        response.headers.get(f"x-ratelimit-{what}-{kind}")
        for what in ("limit", "remaining", "reset")
    )


def test_every_answer_says_where_the_caller_stands(post):
    assert rate_headers(post(BODY)) == ("3", "2", "1s")
    assert rate_headers(post({**BODY, "input": ""})) == ("3", "1", "2s")
    path = "/api/v1/embeddings/batch"
    answer = post({"texts": ["a"], "model": MODEL}, path)
    assert rate_headers(answer) == ("3", "0", "3s")


def test_empty_bucket_is_429_in_the_shape_of_openai(post):
    for _ in range(3):
        assert post(BODY).status_code == 200
    response = post(BODY)
    assert response.status_code == 429
    assert response.headers["Retry-After"] == "1"
    assert rate_headers(response) == ("3", "0", "3s")
    assert response.json()["error"] == {
        "message": "Too many requests: the limit is 60 a minute; try again in 1 second.",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }


@pytest.mark.parametrize("per_minute", [7, 60, 61, 400])
def test_client_that_waits_as_long_as_the_answer_said_gets_through(
    post, limits, clock, per_minute
):
    limits(requests_per_minute=per_minute, burst=2)
    for _ in range(3):
        refused = [post(BODY) for _ in range(3)][-1]
        assert refused.status_code == 429
        clock.turn(int(refused.headers["Retry-After"]))
        assert post(BODY).status_code == 200


def test_limits_of_the_caller_s_own_go_before_the_server_s(post, limits):
    limits(requests_per_minute=600, burst=5)
    assert [post(BODY).status_code for _ in range(6)] == [200] * 5 + [429]
    assert rate_headers(post(BODY)) == ("5", "0", "500ms")


@pytest.fixture
def as_key(monkeypatch):
    """Return a function that makes the caller one of a user's keys, with limits that were given to the user."""

    def become(number, **limits):
        caller = replace(
            SINGLE_USER,
            id=f"key:{number}",
            user_id=3,
            limits=CallerLimits(**limits),
            shared_limits=frozenset(limits),
        )
        monkeypatch.setattr("embeddings.access.authentication.SINGLE_USER", caller)

    return become


def test_user_s_requests_are_counted_for_all_its_keys_together(post, as_key):
    statuses = []
    for number in (7, 8, 7, 8):
        as_key(number, requests_per_minute=60, burst=3)
        statuses.append(post(BODY).status_code)
    assert statuses == [200, 200, 200, 429]


def test_user_s_tokens_are_counted_for_all_its_keys_together(post, as_key):
    answers = []
    for number in (7, 8, 9):
        as_key(number, tokens_per_minute=6)
        answers.append(post(BODY))
    assert [rate_headers(answer, "tokens")[1] for answer in answers] == ["2", "0", "0"]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_limit_of_zero_is_the_tightest_there_is(post, limits):
    limits(requests_per_minute=0, burst=0)
    assert [post(BODY).status_code for _ in range(2)] == [200, 429]
    limits(tokens_per_minute=0, burst=9, requests_per_minute=600)
    assert post(BODY).headers["x-ratelimit-limit-tokens"] == "1"


@pytest.mark.parametrize("switch", ["enabled", "embeddings"])
def test_switched_off_limits_nobody_and_says_nothing(post, settings, configure, switch):
    configure(limiter=replace(settings.EMBEDDINGS.limiter, **{switch: False}))
    answers = [post(BODY) for _ in range(6)]
    assert {answer.status_code for answer in answers} == {200}
    assert rate_headers(answers[0]) == (None, None, None)


def test_tokens_are_charged_by_what_was_used_and_a_debt_is_waited_for(
    post, limits, clock
):
    limits(tokens_per_minute=6, burst=10)
    assert rate_headers(post(BODY), "tokens") == ("6", "2", "30.001s")
    assert rate_headers(post(BODY), "tokens") == ("6", "0", "1m0.001s")
    refused = post(BODY)
    assert refused.status_code == 429
    assert "tokens" in refused.json()["detail"]
    assert rate_headers(refused) == ("10", "8", "2s")
    clock.turn(int(refused.headers["Retry-After"]))
    assert post(BODY).status_code == 200


def test_wait_for_tokens_holds_for_requests_too(post, limits, clock):
    limits(requests_per_minute=1, burst=1, tokens_per_minute=3)
    assert post({**BODY, "input": "one two three four"}).status_code == 200
    refused = post(BODY)
    assert refused.headers["Retry-After"] == "60"
    clock.turn(60)
    assert post(BODY).status_code == 200


def test_guessing_keys_is_limited_by_address_and_the_right_key_is_not(post):
    def guess(address):
        client = APIClient(headers={"X-API-KEY": "wrong"}, REMOTE_ADDR=address)
        return client.post("/api/v1/embeddings", BODY, format="json").status_code

    assert [guess("192.0.2.1") for _ in range(5)] == [401] * 3 + [429] * 2
    assert guess("192.0.2.2") == 401
    assert post(BODY).status_code == 200


def test_store_that_is_away_lets_requests_through(post, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    use(monkeypatch, SqliteBuckets(tmp_path / "file" / "limiter.sqlite3"))
    assert {post(BODY).status_code for _ in range(5)} == {200}


def test_spent_budget_is_429_and_says_which_and_until_when(post, limits):
    limits(monthly_tokens=5)
    assert [post(BODY).status_code for _ in range(3)] == [200, 200, 429]
    refused = post(BODY)
    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert "monthly budget of 5 tokens" in refused.json()["detail"]
    assert "renews at" in refused.json()["detail"]
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.headers["x-should-retry"] == "false"


def test_budgets_hold_where_the_limiter_is_off(post, limits, settings, configure):
    configure(limiter=replace(settings.EMBEDDINGS.limiter, embeddings=False))
    limits(monthly_cost_usd=Decimal(0))
    assert post(BODY).status_code == 429


def test_refused_requests_are_neither_answers_nor_errors(post, limits):
    limits(burst=1)
    assert [post(BODY).status_code for _ in range(3)] == [200, 429, 429]
    account = usage()._page.accounts["single_user"]
    assert [(c.requests, c.errors) for c in account.places.values()] == [(1, 0)]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0s"),
        (0.0000001, "0s"),
        (0.000001, "1ms"),
        (0.12, "120ms"),
        (1, "1s"),
        (8.64, "8.64s"),
        (59.9996, "1m0s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
        (3725.5, "1h2m5.5s"),
    ],
)
def test_times_are_written_as_openai_writes_them(seconds, written):
    assert duration(round(seconds * SECOND)) == written


def test_file_of_a_default_install_s_limiter_is_open_until_the_process_closes(
    settings, tmp_path
):
    settings.DATA_DIR = tmp_path
    store = limiter()._store
    assert isinstance(store, SqliteBuckets)
    store.move("a", cost=1, limit=1, ceiling=1)
    file = tmp_path / "limiter.sqlite3"
    assert str(file) in open_files()
    process.close()
    assert str(file) not in open_files()


def test_limiter_is_in_redis_where_there_is_one(settings, configure, redis_server):
    own = replace(settings.EMBEDDINGS.limiter, redis_url=redis_server.url)
    configure(limiter=own)
    store: Any = limiter()._store
    assert type(store).__name__ == "RedisBuckets"
    assert store.move("a", cost=1, limit=1, ceiling=1).allowed
    store.close()


def test_good_credential_is_let_in_by_an_address_without_guesses_left(
    post, configure, limits
):
    configure(single_user_accept_bearer=True)
    limits(requests_per_minute=600, burst=20)
    wrong = {"Authorization": "Bearer wrong"}
    for _ in range(5):
        APIClient().post("/api/v1/embeddings", BODY, format="json", headers=wrong)
    assert [post(BODY, **wrong).status_code for _ in range(5)] == [200] * 5


def test_good_credential_alone_is_no_guess(post):
    for _ in range(3):
        post(BODY)
    stranger = APIClient()
    assert stranger.post("/api/v1/embeddings", BODY, format="json").status_code == 401
