"""A database that hangs costs what needs it, for a bounded time; embeddings for known keys go on."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.e2e.server import MODEL
from tests.e2e.test_access import SECRET, manage
from tests.waiting import poll

DATABASE_TIMEOUT = 4


@pytest.fixture
def served(launch, postgres_server):
    url = postgres_server.create_database("away")
    server = launch(
        DATABASE_URL=url,
        DATABASE_TIMEOUT=str(DATABASE_TIMEOUT),
        AUTH_MODE="multi_user",
        JWT_SECRET_KEY=SECRET,
        WEB_THREADS="8",
    )
    server.wait_until_ready()
    server.database_url = url
    return server


def test_a_frozen_database_costs_embeddings_for_known_keys_nothing(
    served, postgres_server
):
    command = ("create_api_key", "admin")
    key = manage(served, *command, DATABASE_URL=served.database_url).strip()
    session = requests.Session()
    session.headers["X-API-KEY"] = key

    def embed(_):
        body = {"input": "a text", "model": MODEL}
        return session.post(f"{served.api}/embeddings", json=body, timeout=60)

    def list_documents(_=None):
        return session.get(f"{served.api}/media", timeout=60)

    assert embed(0).status_code == 200
    assert list_documents().status_code == 200
    with postgres_server.frozen(), ThreadPoolExecutor(8) as pool:
        # More at once than there are threads, twice: the second time nobody waits for the database.
        for _ in range(2):
            lists = pool.map(list_documents, range(4))
            answers = list(pool.map(embed, range(12)))
            assert {answer.status_code for answer in answers} == {200}
            assert {answer.status_code for answer in lists} == {503}
        assert session.get(f"{served.url}/healthz", timeout=60).status_code == 200
        ready = session.get(f"{served.url}/readyz", timeout=60)
        assert ready.status_code == 200, ready.text
        stranger = requests.get(
            f"{served.api}/media", headers={"X-API-KEY": "sk-" + "0" * 55}, timeout=60
        )
        assert stranger.status_code == 503
    poll(lambda: list_documents().ok, seconds=30, what="documents are back")


@pytest.mark.sqlite_only("its file lies there")
def test_a_data_folder_that_was_moved_is_not_made_again_and_works_once_it_is_back(
    launch,
):
    server = launch().wait_until_ready()
    document = {"title": "a", "content": "b"}
    headers = server.headers
    gone = server.data_dir.with_name("gone")
    server.data_dir.rename(gone)

    def store():
        return requests.post(
            f"{server.api}/media", json=document, headers=headers, timeout=60
        ).status_code

    assert {store() for _ in range(10)} == {503}
    time.sleep(1)
    assert not server.data_dir.exists()
    gone.rename(server.data_dir)
    assert {store() for _ in range(10)} == {201}
