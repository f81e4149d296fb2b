"""Multi-user mode on a real server with two workers: what only raw HTTP shows, and SDKs with nothing but a key."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import openai
import pytest
import requests

from tests.e2e.server import MODEL, REPOSITORY, Server, clean_environment
from tests.waiting import poll

SECRET = "An-e2e-Secret-0123456789-abcdefghijkl"
PASSWORD = "correct horse battery"
PATH = "/api/v1/embeddings/models"
CREATE_USER = """
from django.contrib.auth.models import User
User.objects.create_user("ada", password="correct horse battery")
User.objects.create_superuser("root", password="correct horse battery")
"""


def manage(server, *command, **changes):
    """Run manage.py as the server's operator would; return what it printed."""
    environment = clean_environment(
        home=server.folder,
        data_dir=server.data_dir,
        port=server.port,
        AUTH_MODE="multi_user",
        JWT_SECRET_KEY=SECRET,
        LOG_LEVEL="error",
        **changes,
    )
    return subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=REPOSITORY,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


@pytest.fixture(scope="module")
def shared_server(prepared_weights, migrated, tmp_path_factory):
    """A server of two users, with two workers. Whatever the tests send, it never answers 500."""
    running = Server(
        tmp_path_factory.mktemp("multi-user"),
        database=migrated,
        AUTH_MODE="multi_user",
        JWT_SECRET_KEY=SECRET,
        WEB_CONCURRENCY="2",
        AUTH_GUESSES_PER_MINUTE="10000",  # the tests send more wrong ones
    )
    running.wait_until_ready()
    manage(running, "shell", "-c", CREATE_USER)
    yield running
    running.end()
    failed = [line for line in running.log_lines() if line.get("status") == 500]
    assert not failed, running.output


@pytest.fixture(scope="module")
def key(shared_server):
    return manage(shared_server, "create_api_key", "ada", "--name", "e2e").strip()


def token(**claims):
    payload = {"sub": "ada", "exp": int(time.time()) + 60, **claims}
    return jwt.encode(payload, SECRET, algorithm="HS256")


def raw(server, *headers, path=PATH):
    """Send headers exactly as given, doubles and all; return status and headers."""
    connection = server.connect()
    try:
        connection.putrequest("GET", path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers
    finally:
        connection.close()


def log_in(server, password=PASSWORD, username="ada"):
    return requests.post(
        f"{server.api}/auth/token",
        json={"username": username, "password": password},
        timeout=60,
    )


def test_openai_sdk_needs_nothing_but_a_key(shared_server, key):
    client = openai.OpenAI(api_key=key, base_url=shared_server.api, max_retries=0)
    answer = client.embeddings.create(input="hello", model=MODEL)
    assert len(answer.data[0].embedding) == 384
    assert MODEL in [model.id for model in client.models.list()]


def test_openai_sdk_takes_a_token_too(shared_server):
    client = openai.OpenAI(api_key=token(), base_url=shared_server.api, max_retries=0)
    assert client.embeddings.create(input="hello", model=MODEL).data


def test_openai_sdk_raises_its_own_error_on_a_wrong_key(shared_server):
    client = openai.OpenAI(api_key="sk-no", base_url=shared_server.api, max_retries=0)
    with pytest.raises(openai.AuthenticationError) as error:
        client.models.list()
    assert error.value.code == "invalid_api_key"


def test_headers_sent_twice_that_differ_are_401(shared_server, key):
    for headers in (
        [("X-API-KEY", key), ("X-API-KEY", "sk-other")],
        [("Authorization", f"Bearer {key}"), ("Authorization", "Bearer other")],
    ):
        status, answer = raw(shared_server, *headers)
        assert status == 401
        assert answer["WWW-Authenticate"].startswith("Bearer ")


def test_same_header_twice_with_the_same_value_is_one(shared_server, key):
    once = token()
    for headers in (
        [("X-API-KEY", key), ("x-api-key", key)],
        [("Authorization", f"Bearer {once}"), ("Authorization", f"Bearer {once}")],
    ):
        assert raw(shared_server, *headers)[0] == 200


def test_underscores_are_no_way_to_a_second_key(shared_server, key):
    status, _ = raw(shared_server, ("X_API_KEY", key))
    assert status == 401


def test_huge_tokens_are_refused(shared_server):
    near = token(filler="x" * 5000)  # below the server's limit for one line
    assert raw(shared_server, ("Authorization", f"Bearer {near}"))[0] in (200, 401)
    beyond = token(filler="x" * 100_000)
    status, _ = raw(shared_server, ("Authorization", f"Bearer {beyond}"))
    assert status in (400, 401, 431)


def test_bytes_that_are_no_text_are_401(shared_server, key):
    for value in (b"sk-\xff\xfe", b"Bearer \xc3\x28", key.encode() + b"\x80"):
        assert raw(shared_server, ("X-API-KEY", value))[0] == 401
        assert raw(shared_server, ("Authorization", b"Bearer " + value))[0] == 401


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
def test_header_injection_gets_nobody_in(shared_server, key, end):
    """A line break inside a value ends it, or the request; it never makes an admin of a user."""
    request = (
        b"GET /api/v1/embeddings/circuit-breakers HTTP/1.1\r\nHost: localhost\r\n"
        b"X-API-KEY: " + key.encode() + end + b"is_staff: true\r\n"
        b"Connection: close\r\n\r\n"
    )
    connection = shared_server.connect()
    try:
        connection.connect()
        connection.sock.sendall(request)
        status = connection.sock.recv(65536).split(b" ", 2)[1]
    finally:
        connection.close()
    assert status in (b"400", b"401", b"403")


def test_request_id_cannot_split_the_answer(shared_server):
    status, headers = raw(shared_server, ("X-Request-ID", "a%0d%0aSet-Cookie: b=1"))
    assert status == 401
    assert "Set-Cookie" not in headers


def test_key_in_the_path_or_query_is_not_read(shared_server, key):
    assert raw(shared_server, path=f"{PATH}?api_key={key}&X-API-KEY={key}")[0] == 401
    assert raw(shared_server, path=f"{PATH};api_key={key}")[0] in (401, 404)


def test_cookie_of_the_console_opens_no_api(shared_server):
    session = requests.Session()
    login = f"{shared_server.url}/admin/login/"
    session.get(login, timeout=60)
    fields = {
        "username": "root",
        "password": PASSWORD,
        "csrfmiddlewaretoken": session.cookies["csrftoken"],
        "next": "/admin/",
    }
    session.post(login, fields, timeout=60)
    assert "sessionid" in session.cookies
    answer = session.get(shared_server.url + PATH, timeout=60)
    assert answer.status_code == 401


def test_revoked_key_is_refused_by_every_worker_within_a_second(shared_server):
    access = log_in(shared_server, username="root").json()["access"]
    keys = f"{shared_server.api}/auth/keys"
    headers = {"Authorization": f"Bearer {access}"}
    made = requests.post(keys, json={}, headers=headers, timeout=60).json()
    assert raw(shared_server, ("X-API-KEY", made["key"]))[0] == 200
    requests.delete(f"{keys}/{made['id']}", headers=headers, timeout=60)

    def answers():
        return {raw(shared_server, ("X-API-KEY", made["key"]))[0] for _ in range(12)}

    poll(lambda: answers() == {401}, seconds=5, what="refused by both workers")


def test_guesses_at_once_over_two_workers_get_five_looks_and_no_more(shared_server):
    with ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(
                lambda _: log_in(shared_server, "wrong", username="mallory"), range(16)
            )
        )
    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) == [401] * 5 + [429] * 11
    waits = [int(a.headers["Retry-After"]) for a in answers if a.status_code == 429]
    assert all(0 < wait <= 30 for wait in waits)


def test_no_secret_is_in_the_log(shared_server, key):
    raw(shared_server, ("X-API-KEY", key))
    assert key not in shared_server.output
    assert PASSWORD not in shared_server.output
    assert SECRET not in shared_server.output


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "JWT_SECRET_KEY"),
        ({"JWT_SECRET_KEY": "short"}, "JWT_SECRET_KEY"),
        ({"JWT_SECRET_KEY_FILE": os.devnull}, "JWT_SECRET_KEY"),
        ({"JWT_ALGORITHM": "RS256"}, "JWT_PUBLIC_KEY"),
        ({"JWT_ALGORITHM": "none"}, "JWT_ALGORITHM"),
        ({"JWT_SECRET": SECRET}, "JWT_SECRET"),
    ],
)
def test_unsafe_multi_user_mode_does_not_start(launch, environment, name):
    output = launch(AUTH_MODE="multi_user", **environment).wait_for_refusal()
    assert name in output
    assert SECRET not in output
