"""What callers are answered while the database fails: 503 with the reason, wherever they call."""

from contextlib import ExitStack

import pytest
from django.db import (
    DataError,
    InterfaceError,
    InternalError,
    OperationalError,
    connection,
)
from rest_framework.test import APIClient

PATHS = [
    ("get", "/api/v1/media"),
    ("get", "/api/v1/media/1"),
    ("get", "/api/v1/media/embeddings/jobs"),
    ("post", "/api/v1/media"),
    ("post", "/api/v1/media/embeddings/search"),
    ("get", "/api/v1/usage"),
    ("get", "/api/v1/embeddings/circuit-breakers"),
]
BODIES = {
    "/api/v1/media": {"title": "a", "content": "b"},
    "/api/v1/media/embeddings/search": {"query": "b"},
}


class ReadOnly(Exception):
    sqlstate = "25006"


def in_a_standby():
    error = InternalError("cannot execute INSERT in a read-only transaction")
    error.__cause__ = ReadOnly()
    return error


@pytest.fixture
def fail():
    """Return a function that makes every statement raise an error."""

    def with_error(error):
        def wrapper(*_):
            raise error

        stack.enter_context(connection.execute_wrapper(wrapper))

    with ExitStack() as stack:
        yield with_error


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OperationalError("database is locked"), "busy or away"),
        (InterfaceError("connection already closed"), "busy or away"),
        (OperationalError("database or disk is full"), "disk of the database is full"),
        (
            OperationalError("could not extend file: No space left on device"),
            "disk of the database is full",
        ),
        (OperationalError("attempt to write a readonly database"), "read-only"),
        (in_a_standby(), "read-only"),
    ],
)
def test_a_database_that_fails_is_503_with_the_reason(
    method, path, error, word, client, fakes, fail
):
    fail(error)
    answer = getattr(client, method)(path, BODIES.get(path), format="json")
    assert answer.status_code == 503
    assert word in answer.json()["detail"]
    assert answer.headers["Retry-After"] == "5"
    assert answer.json()["error"]["type"] == "service_unavailable_error"


def test_a_mistake_of_our_own_stays_a_500(fakes, fail):
    client = APIClient(
        raise_request_exception=False,
        headers={"X-API-KEY": "test-key-0123456789abcdef"},
    )
    fail(DataError("value too long"))
    assert client.get("/api/v1/media").status_code == 500
