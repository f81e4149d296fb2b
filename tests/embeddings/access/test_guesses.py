"""Guessing keys and tokens: slowed for each address, logged with it, and never at the cost of who is right."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from embeddings.access import api_keys
from embeddings.access import guesses as guesses_module
from embeddings.access.api_keys import keys_by_prefix, keys_in_use
from embeddings.access.guesses import Guesses, guesses
from embeddings.access.limiter.limiter import Limiter
from embeddings.access.limiter.sqlite_buckets import SqliteBuckets
from embeddings.models import ApiKey
from tests.conftest import KEY
from tests.embeddings.access.limiter.conftest import Clock
from tests.embeddings.multi_user import URL, bearer, signed

FREE = 5
HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def clock(monkeypatch):
    """A clock for the buckets and for what this process remembers of them."""
    clock = Clock()
    for place in (Guesses, api_keys):
        monkeypatch.setattr(place, "timer", staticmethod(lambda: clock() / 1e6))
    return clock


@pytest.fixture(autouse=True)
def limiter(monkeypatch, tmp_path, clock):
    """Buckets of this test's own, as another process sees them, too."""
    store = SqliteBuckets(tmp_path / "limiter.sqlite3", clock=clock)
    own = Limiter(store)
    monkeypatch.setattr(guesses_module, "limiter", lambda: own)
    yield own
    store.close()


@pytest.fixture
def single(settings, configure, fakes):
    """Single-user mode with five free guesses a minute."""
    configure(access=replace(settings.EMBEDDINGS.access, guesses_per_minute=FREE))


@pytest.fixture
def multi(access):
    access(guesses_per_minute=FREE)


def get(address=HERE, url=URL, **headers):
    return APIClient(REMOTE_ADDR=address).get(url, headers=headers)


def statuses(number, **request):
    return [get(**request).status_code for _ in range(number)]


def unknown_key(number):
    return f"sk-{number:012x}{'a' * 43}"


WRONG = {
    "key": {"X-API-KEY": "wrong-key-0123456789"},
    "short": {"X-API-KEY": "x"},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_guesses_of_the_server_s_key_are_429_after_a_few(single, wrong):
    assert statuses(7, **wrong) == [401] * FREE + [429] * 2
    response = get(**wrong)
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert int(response.headers["Retry-After"]) == 12


def test_right_key_goes_in_whatever_its_address_sent(single):
    statuses(8, **WRONG["key"])
    assert statuses(20, **{"X-API-KEY": KEY}) == [200] * 20
    assert get(**WRONG["key"]).status_code == 429


def test_guess_is_free_again_after_the_wait_that_was_said(single, clock):
    statuses(6, **WRONG["key"])
    clock.turn(12)
    assert statuses(2, **WRONG["key"]) == [401, 429]


def test_other_addresses_are_not_slowed_and_a_network_is_one(single):
    statuses(6, **WRONG["key"])
    assert get(THERE, **WRONG["key"]).status_code == 401
    for number in range(FREE):
        get(f"2001:db8::{number}", **WRONG["key"])
    assert get("2001:db8::ffff", **WRONG["key"]).status_code == 429
    assert get("2001:db8:0:1::1", **WRONG["key"]).status_code == 401


def test_address_is_the_one_that_trusted_proxies_tell(settings, configure, single):
    access = replace(settings.EMBEDDINGS.access, trusted_proxies=1)
    configure(access=access)
    behind = {**WRONG["key"], "X-Forwarded-For": f"203.0.113.9, {THERE}"}
    assert statuses(6, **behind)[-1] == 429
    assert get(**WRONG["key"], **{"X-Forwarded-For": HERE}).status_code == 401


@pytest.mark.parametrize(
    "headers", [{}, {"X-API-KEY": " "}, {"Authorization": "Bearer placeholder-1234567"}]
)
def test_what_is_missing_or_not_looked_at_is_no_guess(single, headers):
    assert set(statuses(2 * FREE, **headers)) == {401}


def test_guessing_is_limited_where_the_limiter_is_off(settings, configure, single):
    configure(limiter=replace(settings.EMBEDDINGS.limiter, enabled=False))
    assert statuses(6, **WRONG["key"])[-1] == 429


def test_zero_slows_nobody(settings, configure, fakes):
    assert set(statuses(40, **WRONG["key"])) == {401}


def test_flood_does_not_ask_the_buckets_over_and_over(single, limiter, monkeypatch):
    statuses(FREE + 1, **WRONG["key"])
    monkeypatch.setattr(limiter, "take", None)  # to be called is to fail
    assert statuses(20, **WRONG["key"]) == [429] * 20


def test_all_processes_count_together(single):
    statuses(FREE, **WRONG["key"])
    guesses.cache_clear()  # another process
    assert get(**WRONG["key"]).status_code == 429


@pytest.mark.parametrize(
    "wrong",
    [
        bearer(signed(secret="x" * 32)),
        bearer(signed(sub="nobody")),
        bearer(signed(exp=1)),
        bearer("sk-nonsense-of-some-length"),
        {"X-API-KEY": unknown_key(1)},
        {"X-API-KEY": "a-key-of-single-user-mode"},
    ],
)
def test_guesses_of_keys_and_tokens_are_429_after_a_few(multi, ada, key_of, wrong):
    assert statuses(7, **wrong) == [401] * FREE + [429] * 2
    key = key_of(ada)
    assert get(**bearer(signed())).status_code == 200
    assert get(THERE, **bearer(key)).status_code == 200


def another_process():
    """Forget what this process has seen, as one beside it has not, or it itself after a restart."""
    keys_by_prefix.cache_clear()
    keys_in_use.cache_clear()
    guesses.cache_clear()


def test_keys_go_in_beside_a_flood_of_others(multi, ada, key_of):
    key = key_of(ada)
    found = [get(**{"X-API-KEY": unknown_key(n)}).status_code for n in range(20)]
    assert found == [401] * FREE + [429] * 15
    for _ in range(2):
        assert statuses(3, **bearer(key)) == [200] * 3
        assert statuses(3, **bearer(signed())) == [200] * 3
        another_process()
        assert get(**{"X-API-KEY": unknown_key(1)}).status_code == 429


def test_flood_of_keys_asks_the_database_once_in_a_while(
    multi, ada, key_of, django_assert_num_queries, clock
):
    key_of(ada)
    statuses(FREE + 1, **{"X-API-KEY": unknown_key(0)})
    with django_assert_num_queries(1):
        for number in range(100, 120):
            response = get(**{"X-API-KEY": unknown_key(number)})
            assert response.status_code == 429
    clock.turn(10)
    with django_assert_num_queries(1):
        assert statuses(5, **{"X-API-KEY": unknown_key(0)}) == [429] * 5


def test_key_that_is_newer_than_the_list_waits_no_longer_than_said(
    multi, ada, key_of, clock
):
    statuses(FREE + 2, **{"X-API-KEY": unknown_key(0)})
    key = key_of(ada)
    response = get(**bearer(key))
    assert response.status_code == 429
    clock.turn(int(response.headers["Retry-After"]))
    assert get(**bearer(key)).status_code == 200


def test_keys_in_use_are_those_used_or_made_last(multi, ada, key_of, monkeypatch):
    monkeypatch.setattr(api_keys, "MAX_KEYS_IN_USE", 2)
    _, used, revoked, new = (key_of(ada)[:15] for _ in range(4))
    rows = ApiKey.objects
    rows.update(created_at=timezone.now() - timedelta(days=9))
    rows.filter(prefix=used).update(last_used_at=timezone.now())
    rows.filter(prefix=new).update(created_at=timezone.now())
    rows.filter(prefix=revoked).update(
        created_at=timezone.now(), revoked_at=timezone.now()
    )
    assert keys_in_use().get() == {used, new}


def test_wrong_secret_of_a_known_key_is_a_guess(multi, ada, key_of):
    key = key_of(ada)
    wrong = {"X-API-KEY": key[:-5] + "aaaaa"}
    assert statuses(7, **wrong) == [401] * FREE + [429] * 2
    assert get(**bearer(key)).status_code == 200


def test_wrong_credential_beside_a_good_one_is_a_guess_that_refuses_nothing(
    multi, ada, key_of
):
    good = bearer(key_of(ada))
    headers = {"X-API-KEY": unknown_key(1), **good}
    assert statuses(10, **headers) == [200] * 10
    assert get(**{"X-API-KEY": unknown_key(2)}).status_code == 429
    assert statuses(3, **headers) == [200] * 3


def test_wrong_bearer_beside_the_server_s_key_is_one(settings, configure, single):
    configure(single_user_accept_bearer=True)
    headers = {"X-API-KEY": KEY, **bearer("wrong-key-0123456789")}
    assert statuses(10, **headers) == [200] * 10
    assert get(**WRONG["key"]).status_code == 429


def test_two_guesses_in_one_request_are_two(multi, ada):
    headers = {"X-API-KEY": unknown_key(1), **bearer(signed(exp=1))}
    assert statuses(4, **headers) == [401, 401, 429, 429]


def test_placeholder_beside_a_good_credential_is_no_guess(multi, ada, key_of):
    headers = {"X-API-KEY": "EMPTY", **bearer(key_of(ada))}
    assert statuses(20, **headers) == [200] * 20
    assert get(**WRONG["key"]).status_code == 401


def test_guesses_of_refresh_tokens_are_slowed(multi, ada):
    client = APIClient(REMOTE_ADDR=HERE)
    url = "/api/v1/auth/token/refresh"
    found = [
        client.post(url, {"refresh": signed()}, format="json").status_code
        for _ in range(7)
    ]
    assert found == [401] * FREE + [429] * 2


@pytest.fixture
def lines(caplog):
    def of(event):
        messages = [record.msg for record in caplog.records]
        return [m for m in messages if isinstance(m, dict) and m.get("event") == event]

    return of


def test_failures_are_logged_with_the_address_and_the_public_part(multi, lines):
    get(**{"X-API-KEY": unknown_key(7)})
    get(THERE, **bearer(signed(secret="x" * 32)))
    get()  # nothing to guess with
    found = [
        (line["address"], line["credential"]) for line in lines("authentication_failed")
    ]
    assert found == [(HERE, "key sk-000000000007"), (THERE, "token")]


def test_flood_from_one_address_leaves_few_lines(multi, lines):
    statuses(200, **{"X-API-KEY": unknown_key(7)})
    assert len(lines("authentication_failed")) == FREE


def test_flood_from_everywhere_leaves_few_lines_and_their_number(
    multi, lines, clock, monkeypatch
):
    monkeypatch.setattr(guesses_module, "LINES_A_MINUTE", 3)
    for number in range(10):
        get(f"198.51.100.{number}", **bearer("sk-wrong"))
    assert len(lines("authentication_failed")) == 3
    clock.turn(60)
    get("198.51.100.99", **bearer("sk-wrong"))
    assert [line["count"] for line in lines("authentication_failures_not_logged")] == [
        7
    ]
    assert len(lines("authentication_failed")) == 4


def test_every_request_is_logged_with_address_and_caller(multi, ada, key_of, lines):
    key = key_of(ada)
    get(**bearer(key))
    get(**bearer(signed()))
    get("2001:db8::7")
    get(url="/docs")
    by_key, by_token, nobody, page = lines("request_finished")
    assert by_key["caller"].startswith("key:")
    assert by_key["key"] == key[:15]
    assert by_key["address"] == HERE
    assert (by_token["caller"], "key" in by_token) == (f"user:{ada.pk}", False)
    assert (nobody["status"], nobody["address"]) == (401, "2001:db8::7")
    assert "caller" not in nobody
    assert (page["status"], page["address"]) == (200, HERE)
    assert key not in str(lines("request_finished"))


def test_console_s_requests_are_logged_with_their_user(admin_client, admin_user, lines):
    admin_client.get("/admin/")
    assert lines("request_finished")[0]["caller"] == f"user:{admin_user.pk}"


@pytest.mark.parametrize(
    "given", [KEY, f"job-{KEY}", unknown_key(1), "sk-proj-0123456789abcdef"]
)
def test_key_is_no_request_id(single, monkeypatch, given):
    monkeypatch.setattr("embeddings_project.logging.HIDDEN", {KEY})
    response = get(**{"X-API-KEY": KEY, "X-Request-ID": given})
    assert response.headers["X-Request-ID"] != given
