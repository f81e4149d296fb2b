"""API keys as callers meet them."""

import hmac
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError
from django.utils import timezone
from rest_framework.test import APIClient

from embeddings.access import api_keys
from embeddings.access.api_keys import UseNotes, digest_of, find_key, revoke_key
from embeddings.access.caller_lookup import caller_of_key
from embeddings.models import ApiKey, UserLimits
from embeddings.services.callers import CallerLimits
from embeddings.services.errors import InvalidRequest
from tests.embeddings.multi_user import bearer, get, refused, signed


@pytest.fixture
def key(ada, key_of):
    return key_of(ada)


def row_of(key):
    row = find_key(key)
    assert row is not None
    return row


def test_key_is_taken_in_either_header(key):
    assert get(**{"X-API-KEY": key}).status_code == 200
    assert get(**bearer(key)).status_code == 200


def test_key_is_sk_and_256_bits_and_stored_as_a_digest(key):
    assert key.startswith("sk-")
    row = ApiKey.objects.get()
    assert key.startswith(row.prefix)
    assert len(key.removeprefix(row.prefix)) == 43
    stored = [str(value) for value in ApiKey.objects.values_list()[0]]
    assert all(key.removeprefix(row.prefix) not in value for value in stored)


def test_wrong_keys_are_401(key):
    other = ("b" if key[-1] == "a" else "a") + ""
    for wrong in (
        key[:-1],
        key + "x",
        key[:-1] + other,
        key[:15],
        key.upper(),
        "sk-",
        "sk-" + "0" * 55,
        "sk-\0" + key[4:],
        f"{key},{key[:-1]}",
        f"{key},",
        "sk-" + "x" * 100_000,
        "schlüssel",
        ApiKey.objects.get().digest,
    ):
        refused(get(**{"X-API-KEY": wrong}))
        refused(get(**bearer(wrong)))


def test_header_without_a_value_is_one_that_was_not_sent(key):
    assert refused(get(**{"X-API-KEY": ""})).startswith("Send an API key")
    assert refused(get(Authorization=" ")).startswith("Send an API key")
    assert get(**{"X-API-KEY": "", **bearer(key)}).status_code == 200
    assert get(**{"X-API-KEY": " ", **bearer(signed())}).status_code == 200
    assert get(**{"X-API-KEY": key, "Authorization": ""}).status_code == 200


def test_key_in_the_query_string_is_not_read(key):
    for name in ("api_key", "key", "X-API-KEY", "x-api-key", "token", "access_token"):
        refused(get(f"/api/v1/embeddings/models?{name}={key}"))


def test_secrets_are_compared_in_constant_time(key, monkeypatch):
    compared = []

    def compare(one, other):
        compared.append((one, other))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert find_key(key) is None
    assert compared == [(digest_of(key), digest_of(key))]


def test_revoked_key_is_401_from_the_next_request_on(key):
    assert get(**bearer(key)).status_code == 200
    revoke_key(ApiKey.objects.get())
    assert refused(get(**bearer(key))) == "The API key is revoked."


def test_expired_key_is_401(key):
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert refused(get(**bearer(key))) == "The API key is expired."


def test_key_of_an_inactive_user_is_401(key, ada):
    ada.is_active = False
    ada.save()
    refused(get(**bearer(key)))


def test_key_of_a_deleted_user_is_401(key, ada):
    ada.delete()
    refused(get(**bearer(key)))


def test_headers_that_disagree_are_401(key, ada, key_of, make_user):
    eve = make_user("eve")
    for headers in (
        {"X-API-KEY": key, **bearer(key_of(eve))},
        {"X-API-KEY": key_of(eve), **bearer(signed())},
        {"X-API-KEY": key, **bearer(key_of(ada))},
    ):
        assert "name two callers" in refused(get(**headers))


WRONG = ["EMPTY", "undefined", "sk-" + "0" * 55, signed(secret="x" * 32), signed(exp=1)]


@pytest.mark.parametrize("wrong", WRONG)
def test_good_credential_counts_whatever_stands_beside_it(key, wrong):
    assert get(**{"X-API-KEY": key, **bearer(wrong)}).status_code == 200
    assert get(**{"X-API-KEY": wrong, **bearer(key)}).status_code == 200
    assert get(**{"X-API-KEY": wrong, **bearer(signed())}).status_code == 200


def test_ended_key_is_wrong_beside_a_good_one_and_alone(key, ada, key_of):
    other = key_of(ada)
    revoke_key(row_of(key))
    assert get(**{"X-API-KEY": key, **bearer(other)}).status_code == 200
    refused(get(**{"X-API-KEY": key, **bearer("EMPTY")}))


def test_two_wrong_credentials_are_401(key):
    for wrong in WRONG:
        refused(get(**{"X-API-KEY": "wrong", **bearer(wrong)}))


def test_same_credential_several_times_is_one(key):
    for same in (key, signed()):
        for headers in (
            {"X-API-KEY": same, **bearer(same)},
            {"Authorization": f"Bearer {same},Bearer {same}"},
            {"Authorization": f"Bearer {same}, Bearer {same}, Bearer {same}"},
        ):
            assert get(**headers).status_code == 200
    assert get(**{"X-API-KEY": f"{key},{key}"}).status_code == 200
    refused(get(Authorization=f"Bearer {key},Bearer {key[:-1]}"))
    refused(get(**{"X-API-KEY": signed()}))


def test_headers_that_agree_are_taken_and_the_key_counts(ada, key_of):
    key = key_of(ada, allowed_providers=["huggingface"])
    assert get(**{"X-API-KEY": key, **bearer(key)}).status_code == 200
    response = get(**{"X-API-KEY": key, **bearer(signed())})
    allowed = {m["provider"] for m in response.json()["data"] if m["allowed"]}
    assert allowed == {"huggingface"}


def test_another_scheme_beside_a_key_is_ignored(key):
    headers = {"X-API-KEY": key, "Authorization": "Basic YTpi"}
    assert get(**headers).status_code == 200


def test_key_costs_one_query(key, django_assert_num_queries):
    find_key(key)
    with django_assert_num_queries(1):
        caller = caller_of_key(row_of(key))
    assert caller.username == "ada"


def test_use_is_noted_once_a_minute(key, django_assert_num_queries):
    notes = UseNotes()
    notes.note(row_of(key))
    first = ApiKey.objects.get().last_used_at
    assert first is not None
    noted = row_of(key)
    with django_assert_num_queries(0):
        notes.note(noted)
    ApiKey.objects.update(last_used_at=first - timedelta(seconds=61))
    UseNotes().note(row_of(key))
    again = ApiKey.objects.get().last_used_at
    assert again is not None
    assert again >= first


def test_use_that_another_process_noted_is_noted_again_after_its_own_minute(key):
    notes, seconds = UseNotes(), [1000.0]
    notes.timer = lambda: seconds[0]
    noted = timezone.now() - timedelta(seconds=50)
    ApiKey.objects.update(last_used_at=noted)
    notes.note(row_of(key))
    assert ApiKey.objects.get().last_used_at == noted
    ApiKey.objects.update(last_used_at=noted - timedelta(seconds=11))
    seconds[0] += 11
    notes.note(row_of(key))
    again = ApiKey.objects.get().last_used_at
    assert again is not None
    assert again > noted


def test_database_that_refuses_the_note_fails_no_request(key, monkeypatch):
    class Rows:
        def filter(self, *args, **kwargs):
            raise DatabaseError("database is locked")

    notes, tries = UseNotes(), []
    row = row_of(key)
    monkeypatch.setattr(ApiKey, "objects", Rows())
    monkeypatch.setattr(api_keys.log, "warning", lambda *a, **k: tries.append(a))
    notes.note(row)
    notes.note(row)
    assert len(tries) == 1


def test_database_away_is_503(key, monkeypatch):
    def away(text):
        raise DatabaseError("gone")

    monkeypatch.setattr("embeddings.access.authentication.find_key", away)
    response = get(**bearer(key))
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert "gone" not in response.content.decode()


def test_limits_are_the_key_s_own_else_the_user_s(ada, key_of):
    UserLimits.objects.create(user=ada, requests_per_minute=60, burst=5)
    key = key_of(
        ada,
        limits=CallerLimits(requests_per_minute=7, monthly_cost_usd=Decimal("2.5")),
    )
    limits = caller_of_key(row_of(key)).limits
    assert (limits.requests_per_minute, limits.burst) == (7, 5)
    assert (limits.monthly_cost_usd, limits.monthly_tokens) == (Decimal("2.5"), None)


def test_zero_is_a_limit_and_no_gap(ada, key_of):
    UserLimits.objects.create(user=ada, monthly_tokens=1000)
    key = key_of(ada, limits=CallerLimits(monthly_tokens=0))
    assert caller_of_key(row_of(key)).limits.monthly_tokens == 0


@pytest.mark.parametrize("pattern", ["", " ", "a*b", "**", "x" * 265])
def test_senseless_scopes_are_refused(ada, key_of, pattern):
    with pytest.raises(InvalidRequest, match="allowed_models"):
        key_of(ada, allowed_models=[pattern])


def test_user_has_a_hundred_active_keys_at_most(ada, key_of, monkeypatch):
    monkeypatch.setattr(api_keys, "MAX_ACTIVE_KEYS", 2)
    key_of(ada)
    key_of(ada)
    with pytest.raises(InvalidRequest, match="revoke one"):
        key_of(ada)
    first = ApiKey.objects.first()
    assert first is not None
    revoke_key(first)
    key_of(ada)


def test_what_is_changed_about_a_key_or_user_counts_from_then_on(ada, key):
    url = "/api/v1/embeddings/circuit-breakers"
    for credential in (key, signed()):
        User.objects.update(is_staff=False, is_superuser=True)
        assert get(url, **bearer(credential)).status_code == 403
        User.objects.update(is_staff=True)
        assert get(url, **bearer(credential)).status_code == 200
    ApiKey.objects.update(allowed_providers=["onnx"])
    assert get(url, **bearer(key)).status_code == 403
    models = get(**bearer(key)).json()["data"]
    assert {model["provider"] for model in models if model["allowed"]} == {"onnx"}


def test_narrowed_key_of_an_admin_has_no_admin_rights(admin, key_of):
    url = "/api/v1/embeddings/circuit-breakers"
    assert get(url, **bearer(key_of(admin))).status_code == 200
    for narrow in (
        {"allowed_models": ["*"]},
        {"allowed_providers": ["onnx"]},
        {"read_only_media": True},
    ):
        refused(get(url, **bearer(key_of(admin, **narrow))), status=403)


def test_single_user_mode_knows_no_user_s_key(key, access):
    access(mode="single_user")
    response = APIClient().get("/api/v1/embeddings/models", headers={"X-API-KEY": key})
    assert response.status_code == 401
