"""What users of an earlier release stored, served by this one: from SQLite, moved to PostgreSQL, and from there.

tests/releases/ has the databases; `fill.py` there says what lies in them.
"""

import contextlib
import json
import shutil
import sqlite3
import sys
from pathlib import Path

import psycopg
import pytest
import requests

from tests.e2e.server import (
    Server,
    lay_out_weights,
    manage,
)
from tests.releases.fill import JWT_SECRET, MODEL, SECRETS, WordServer
from tests.servers import serving
from tests.waiting import poll

pytestmark = pytest.mark.sqlite_only("names its own databases")

RELEASES = Path(__file__).parents[1] / "releases"
RELEASE = RELEASES / "0.1.0"
SERVE = (sys.executable, "manage.py", "serve", "--skip-prepare")
MULTI_USER = {"AUTH_MODE": "multi_user", "JWT_SECRET_KEY": JWT_SECRET}


@pytest.fixture(scope="module")
def words():
    with serving(WordServer()) as server:
        yield server


@pytest.fixture
def serve(words, vocabulary, tmp_path):
    """Return a function that serves from the data folder that the release left."""
    data = tmp_path / "data"
    data.mkdir()
    lay_out_weights(data)
    for name in SECRETS:
        shutil.copy(RELEASE / name, data / name)
    servers = []

    def start(**environment):
        server = Server(
            tmp_path / f"server-{len(servers)}",
            data_dir=data,
            command=SERVE,
            **{"MEDIA_WORKERS": "1", "LOCAL_API_URL": words.url, **environment},
        )
        servers.append(server)
        return server.wait_until_ready()

    yield start
    for server in servers:
        server.end()


def known(store):
    return json.loads((RELEASE / f"{store}.json").read_text())


def found(server, question, **headers):
    """Return the titles of what a search finds, best first."""
    answer = server.post(
        {"query": question, "model": MODEL, "top_k": 10},
        path="/media/embeddings/search",
        **headers,
    )
    assert answer.status_code == 200, answer.text
    return [hit["title"] for hit in answer.json()["results"]]


def shown(server, path, **headers):
    answer = server.get(f"/api/v1{path}", **headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def check_ada(server, keys):
    """Check what a user of multi-user mode had: keys, login, limits, documents, vectors, jobs, usage."""
    ada = {"X-API-KEY": keys["key"]}
    assert (
        server.get("/api/v1/media", **{"X-API-KEY": keys["revoked"]}).status_code == 401
    )
    items = shown(server, "/media", **ada)["data"]
    assert {item["title"] for item in items} == {"On foxes", "On herons"}
    herons = next(item for item in items if item["title"] == "On herons")
    assert herons["metadata"] == {"tags": ["ä"]}
    assert found(server, "herons in shallow water", **ada)[0] == "On herons"
    # The job that the release had left waiting embeds the text that replaced the one about mice.
    poll(lambda: not waiting(server, ada), seconds=60, what="the job that waited")
    assert found(server, "voles at dusk", **ada)[0] == "On foxes"
    token = requests.post(
        f"{server.api}/auth/token",
        json={"username": "ada", "password": "the-password-of-ada"},
        timeout=60,
    ).json()["access"]
    listed = shown(
        server, "/auth/keys", Authorization=f"Bearer {token}", **{"X-API-KEY": ""}
    )
    assert {(key["name"], key["status"]) for key in listed["data"]} == {
        ("notebook", "active"),
        ("lost", "revoked"),
    }


def waiting(server, headers):
    jobs = shown(server, "/media/embeddings/jobs", **headers)["data"]
    return [job for job in jobs if job["status"] != "completed"]


def check_single_user(server):
    """Check what the single user had, who sees all."""
    assert server.key == (RELEASE / "api_key").read_text().strip()
    items = shown(server, "/media")["data"]
    stale = {item["title"]: item["embeddings_stale"] for item in items}
    assert stale == {"On badgers": False, "On foxes": True, "On herons": False}
    used = shown(server, "/usage?from=2026-01-01T00:00:00Z&group_by=model")["total"]
    assert (used["requests"], used["tokens"]) >= (5, 9)
    assert found(server, "badgers in the woods")[0] == "On badgers"


def test_installation_is_served_and_moved_to_postgresql(
    serve, postgres_server, tmp_path
):
    data = tmp_path / "data"
    with contextlib.closing(sqlite3.connect(data / "db.sqlite3")) as file:
        file.executescript((RELEASE / "sqlite.sql").read_text())
    server = serve(MEDIA_WORKERS="0")
    check_single_user(server)
    url = postgres_server.create_database("installation")
    refused = manage(data, "move_to", url)
    assert refused.returncode == 1
    assert f"A server uses {data}. Stop it" in refused.stderr
    assert server.stop() == 0
    moved = manage(data, "move_to", url)
    assert moved.returncode == 0, moved.stderr
    server = serve(DATABASE_URL=url, **MULTI_USER)
    check_ada(server, known("sqlite"))


def test_postgresql_database_is_served(serve, postgres_server):
    url = postgres_server.create_database("release")
    with psycopg.connect(url) as connection:
        connection.execute((RELEASE / "postgres.sql").read_text())
    server = serve(DATABASE_URL=url, **MULTI_USER)
    check_ada(server, known("postgres"))
