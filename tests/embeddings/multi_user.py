"""Multi-user mode: users, their tokens, made here with bare PyJWT as others would, and their keys."""

import time

import jwt
import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from embeddings.access.api_keys import NewKey, create_key
from embeddings.access.tokens import make_tokens
from embeddings.conf import AccessConf

SECRET = "a-Secret-of-the-tests-0123456789-abcdef"
URL = "/api/v1/embeddings/models"


def signed(secret=SECRET, algorithm="HS256", headers=None, **claims):
    """Return a token as someone else's server makes it: `sub`, `exp` and `iat`, unless `claims` say otherwise."""
    now = int(time.time())
    payload = {"sub": "ada", "exp": now + 60, "iat": now, **claims}
    payload = {name: value for name, value in payload.items() if value is not ...}
    return jwt.encode(payload, secret, algorithm=algorithm, headers=headers)


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


def get(url=URL, **headers):
    return APIClient().get(url, headers=headers)


def refused(response, status=401):
    """Assert a refusal in full and return its sentence."""
    assert response.status_code == status, response.content
    body = response.json()
    if status == 401:
        assert response.headers["WWW-Authenticate"].startswith("Bearer ")
        assert body["error"]["type"] == "authentication_error"
        assert body["error"]["code"] == "invalid_api_key"
    else:
        assert body["error"]["type"] == "permission_error"
    assert body["detail"].endswith((".", "not allowed"))
    return body["detail"]


@pytest.fixture
def access(configure, fakes):
    """Put the server into multi-user mode; return a function that changes the mode's settings."""

    def change(**changes):
        configure(
            access=AccessConf(
                **{
                    "mode": "multi_user",
                    "jwt_secret_key": SECRET,
                    "guesses_per_minute": 0,  # its buckets outlive a test
                    **changes,
                }
            )
        )

    change()
    return change


@pytest.fixture
def make_user(access, settings):
    """Return a function that makes a user, with a password that is quick to check."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

    def make(username, password="correct horse battery", **fields):
        return User.objects.create_user(username, password=password, **fields)

    return make


@pytest.fixture
def ada(make_user):
    return make_user("ada")


@pytest.fixture
def admin(make_user):
    return make_user("root", is_staff=True, is_superuser=True)


@pytest.fixture
def key_of(access):
    """Return a function that makes a key of a user and returns its text."""

    def make(user, **wanted):
        return create_key(user, NewKey(**wanted))[1]

    return make


@pytest.fixture
def client_of(access):
    """Return a function that gives a client with a user's own token."""

    def make(user):
        return APIClient(headers=bearer(make_tokens(user)["access"]))

    return make
