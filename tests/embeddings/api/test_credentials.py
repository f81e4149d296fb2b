"""Tokens for a password, and the keys of a user, over the API."""

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from rest_framework.test import APIClient

from embeddings.models import ApiKey, AuditEntry
from tests.embeddings.multi_user import bearer, get, refused, signed

TOKEN, KEYS = "/api/v1/auth/token", "/api/v1/auth/keys"
PASSWORD = "correct horse battery"


def log_in(username="ada", password=PASSWORD, **headers):
    body = {"username": username, "password": password}
    return APIClient().post(TOKEN, body, format="json", headers=headers)


def test_password_gets_tokens_that_work(ada):
    response = log_in()
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert set(response.json()) == {"access", "refresh"}
    assert get(**bearer(response.json()["access"])).status_code == 200


def test_wrong_password_unknown_and_inactive_user_get_the_same_answer(ada, make_user):
    make_user("gone", is_active=False)
    details = {
        refused(log_in(password="wrong")),
        refused(log_in(username="nobody")),
        refused(log_in(username="gone")),
    }
    assert details == {"Username or password is not right."}


def test_unknown_user_costs_a_password_check_too(ada, monkeypatch):
    hashed = []
    encode = MD5PasswordHasher.encode

    def counted(self, *args, **kwargs):
        hashed.append(1)
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(MD5PasswordHasher, "encode", counted)
    log_in(password="wrong")
    known = len(hashed)
    log_in(username="nobody")
    assert len(hashed) - known == known


def test_guessing_is_locked_out_with_its_time(ada):
    for _ in range(5):
        refused(log_in(password="wrong"))
    response = log_in()
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 30
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert response.json()["detail"].startswith("Too many failed logins")


def test_client_cannot_pick_another_address(ada):
    for number in range(5):
        log_in(password="wrong", **{"X-Forwarded-For": f"198.51.100.{number}"})
    assert log_in(**{"X-Forwarded-For": "198.51.100.99"}).status_code == 429


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": "ada"},
        {"username": "ada", "password": None},
        {"username": "ada", "password": 1},
        {"username": ["ada"], "password": "x"},
        {"username": "ada", "password": "x\0"},
        {"username": "a" * 151, "password": "x"},
        {"username": "ada", "password": "x", "is_staff": True},
    ],
)
def test_malformed_logins_are_400(ada, body):
    response = APIClient().post(TOKEN, body, format="json")
    assert response.status_code == 400


def test_credentials_sent_beside_a_login_are_not_looked_at(ada):
    assert log_in(**bearer("nonsense")).status_code == 200


def test_single_user_mode_has_neither_tokens_nor_keys(client, fakes):
    assert log_in().status_code == 404
    for path in (KEYS, TOKEN):
        detail = client.post(path, {}, format="json").json()["detail"]
        assert "ingle-user mode" in detail
    assert client.get(KEYS).status_code == 404
    assert APIClient().get(KEYS).status_code == 401


def make_key(client, query="", **body):
    return client.post(f"{KEYS}{query}", body, format="json")


def test_key_is_made_and_shown_once(client_of, ada):
    client = client_of(ada)
    response = make_key(client, name="notebook", expires_in_days=30)
    assert response.status_code == 201
    assert response.headers["Cache-Control"] == "no-store"
    key = response.json()["key"]
    assert get(**bearer(key)).status_code == 200
    listed = client.get(KEYS)
    assert key not in listed.content.decode()
    [row] = listed.json()["data"]
    assert (row["name"], row["user"], row["status"]) == ("notebook", "ada", "active")
    assert key.startswith(row["prefix"])
    assert row["expires_at"] > row["created_at"]
    assert row["last_used_at"]


def test_key_is_revoked_at_once(client_of, ada):
    client = client_of(ada)
    made = make_key(client).json()
    response = client.delete(f"{KEYS}/{made['id']}")
    assert response.json()["status"] == "revoked"
    refused(get(**bearer(made["key"])))
    again = client.delete(f"{KEYS}/{made['id']}").json()
    assert again["revoked_at"] == response.json()["revoked_at"]


def test_key_of_another_user_is_404(client_of, ada, make_user):
    made = make_key(client_of(ada)).json()
    eve = client_of(make_user("eve"))
    assert eve.delete(f"{KEYS}/{made['id']}").status_code == 404
    assert eve.delete(f"{KEYS}/{10**30}").status_code == 404
    assert eve.get(KEYS).json() == {"data": []}
    assert get(**bearer(made["key"])).status_code == 200


def test_users_may_not_manage_keys_of_others(client_of, ada, make_user):
    eve = client_of(make_user("eve"))
    refused(eve.get(f"{KEYS}?user=ada"), 403)
    refused(make_key(eve, "?user=ada"), 403)
    refused(make_key(eve, "?user=nobody"), 403)
    assert not ApiKey.objects.exists()


def test_admins_manage_keys_of_others(client_of, ada, admin):
    client = client_of(admin)
    made = make_key(client, "?user=ada", limits={"requests_per_minute": 5}).json()
    assert made["user"] == "ada"
    assert made["limits"]["requests_per_minute"] == 5
    assert [k["id"] for k in client.get(f"{KEYS}?user=ada").json()["data"]] == [
        made["id"]
    ]
    assert client.get(KEYS).json() == {"data": []}
    assert client.delete(f"{KEYS}/{made['id']}").status_code == 200
    assert client.get(f"{KEYS}?user=nobody").status_code == 404
    assert client.get(f"{KEYS}?user=%00").status_code == 404


def test_users_may_not_set_limits(client_of, ada):
    response = make_key(client_of(ada), limits={"requests_per_minute": 1_000_000})
    assert "limits" in refused(response, 403)


def test_keys_make_no_keys(ada, admin, key_of):
    for user in (ada, admin):
        client = APIClient(headers=bearer(key_of(user)))
        refused(client.get(KEYS), 403)
        refused(make_key(client), 403)
        refused(client.delete(f"{KEYS}/1"), 403)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 1),
        ("name", "x" * 101),
        ("expires_in_days", 0),
        ("expires_in_days", "7"),
        ("expires_in_days", 10**9),
        ("allowed_models", "x"),
        ("allowed_models", ["a*b"]),
        ("allowed_models", [""]),
        ("allowed_models", ["a\0"]),
        ("allowed_models", ["a"] * 101),
        ("allowed_providers", [1]),
        ("read_only_media", "yes"),
        ("limits", {"requests_per_minute": 0}),
        ("limits", {"requests_per_minute": 2**31}),
        ("limits", {"monthly_cost_usd": "5"}),
        ("limits", {"monthly_cost_usd": -1}),
        ("limits", {"monthly_cost_usd": True}),
        ("limits", {"requests": 5}),
        ("limits", []),
        ("key", "sk-mine"),
        ("user", "ada"),
    ],
)
def test_malformed_keys_are_400(client_of, admin, field, value):
    response = make_key(client_of(admin), **{field: value})
    assert response.status_code == 400
    assert field in response.json()["error"]["param"] + response.json()["detail"]
    assert not ApiKey.objects.exists()


def test_making_and_revoking_is_audited_without_the_secret(client_of, admin, ada):
    client = client_of(admin)
    made = make_key(client, "?user=ada", name="ci", allowed_models=["x"]).json()
    client.delete(f"{KEYS}/{made['id']}", headers={"X-Request-ID": "revoking"})
    revoked, created = AuditEntry.objects.all()
    assert (created.actor, created.action, created.source) == ("root", "create", "api")
    assert created.credential == f"user:{admin.pk}"
    assert created.after is not None
    assert created.after["allowed_models"] == ["x"]
    assert created.after["user"] == "ada"
    assert revoked.before == {"status": "active"}
    assert revoked.after == {"status": "revoked"}
    assert revoked.request_id == "revoking"
    secret = made["key"].removeprefix(made["prefix"])
    digest = ApiKey.objects.get().digest
    for row in AuditEntry.objects.values_list():
        assert secret not in str(row)
        assert digest not in str(row)


def test_foreign_token_manages_keys_of_its_user(ada):
    client = APIClient(headers=bearer(signed()))
    assert make_key(client).status_code == 201
