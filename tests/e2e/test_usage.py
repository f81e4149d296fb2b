"""What a real server counts and limits, also when it is killed."""

import time

import pytest

from tests.e2e.server import MODEL
from tests.waiting import poll

BODY = {"input": "a text", "model": MODEL}


def shared_by(store, request):
    """Return the settings that put the buckets into `store`."""
    if store == "redis":
        return {"CACHE_URL": request.getfixturevalue("redis_server").url}
    if store == "postgres":
        server = request.getfixturevalue("postgres_server")
        return {"DATABASE_URL": server.create_database("served")}
    return {}


def test_kill_loses_at_most_what_came_since_the_last_flush(launch):
    server = launch(EMBEDDINGS_USAGE_FLUSH="0.1").wait_until_ready()
    for _ in range(5):
        server.post(BODY)
    poll(
        lambda: server.stored_requests() == 5,
        seconds=20,
        what="usage is stored by itself",
    )
    server.post(BODY)
    for process in server.members():
        process.kill()
    assert 5 <= server.stored_requests() <= 6


@pytest.mark.parametrize("store", ["file", "redis", "postgres"])
def test_processes_share_a_limit_and_the_wait_they_say_is_true(launch, request, store):
    server = launch(
        **shared_by(store, request),
        EMBEDDINGS_RATE_LIMIT="on",
        RATE_LIMIT_PER_MINUTE="30",
        RATE_LIMIT_BURST="5",
        WEB_CONCURRENCY="2",
    ).wait_until_ready()
    began = time.monotonic()
    answers = [server.post(BODY) for _ in range(30)]
    allowed = [answer for answer in answers if answer.status_code == 200]
    assert 5 <= len(allowed) <= 5 + (time.monotonic() - began) / 2 + 1
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all("x-ratelimit-remaining-requests" in answer.headers for answer in answers)
    more = (server.post(BODY) for _ in range(30))
    refused = next((answer for answer in more if answer.status_code == 429), None)
    assert refused is not None
    assert not any(
        line.get("event") == "limiter_unavailable" for line in server.log_lines()
    )
    time.sleep(int(refused.headers["Retry-After"]))
    assert server.post(BODY).status_code == 200
