"""Two nodes on one PostgreSQL and one Redis, each with a DATA_DIR of its own: what one is told holds on the other.

The second begins with a copy of the first one's folder, as of a cloned machine, while the first is at work on a job.
"""

import re
import secrets
import shutil
import threading
import time

import pytest
import requests

from embeddings.access.row_memory import FRESH_SECONDS
from providers.breaker import LOOK_AGAIN_SECONDS
from providers.engine.pins import DEFAULT_MODEL
from providers.operator_settings import REFRESH_SECONDS
from tests import databases
from tests.e2e.server import MODEL as LOCAL_MODEL
from tests.e2e.server import Server, lay_out_weights
from tests.e2e.test_added_upstreams import Console
from tests.e2e.under_fire import CHUNK, SlowUpstream
from tests.e2e.under_fire import MODEL as SLOW_MODEL
from tests.upstreams import Fault, OpenAIUpstream
from tests.waiting import poll, settled

OPENAI = "text-embedding-3-small"
JOB_SECONDS = 60.0


class HeldUpstream(SlowUpstream):
    """Answers nothing until it is let go."""

    def __init__(self):
        super().__init__()
        self.fault = None
        self.asked, self.let_go = threading.Event(), threading.Event()

    def answer(self, path, headers, body):
        self.asked.set()
        self.let_go.wait(JOB_SECONDS)
        return super().answer(path, headers, body)


class First(Server):
    """The node that is started first, who asks it, and its job."""

    client: "Client"
    job: str
    database_url: str


class Client:
    """Asks either node as one user."""

    def __init__(self, server):
        password = re.search(r"Login +admin / (\S+)", server.output)
        assert password is not None
        login = {"username": "admin", "password": password[1]}
        token = requests.post(f"{server.api}/auth/token", json=login, timeout=60)
        self.token = {"Authorization": f"Bearer {token.json()['access']}"}

    def call(self, server, method, path, *, headers=None, **body):
        return requests.request(
            method,
            server.api + path,
            json=body or None,
            headers=headers or self.token,
            timeout=60,
        )

    def embed(self, server, model=OPENAI):
        """Ask each of the node's processes about a new text, most likely; return the statuses and who answered."""
        answers = [
            self.call(
                server, "POST", "/embeddings", input=secrets.token_hex(8), model=model
            )
            for _ in range(8)
        ]
        return {
            (answer.status_code, answer.headers.get("X-Embeddings-Provider"))
            for answer in answers
        }


@pytest.fixture(scope="module")
def upstreams():
    with OpenAIUpstream() as openai, HeldUpstream() as held:
        yield openai, held


@pytest.fixture(scope="module")
def nodes(prepared_weights, upstreams, postgres_server, redis_server, tmp_path_factory):
    openai, held = upstreams
    environment = {
        "DATABASE_URL": postgres_server.create_database("nodes"),
        "CACHE_URL": f"{redis_server.url}?db=15",
        "AUTH_MODE": "multi_user",
        "JWT_SECRET_KEY": secrets.token_urlsafe(32),
        "MEDIA_WORKERS": "1",
        "WEB_CONCURRENCY": "2",
        "EMBEDDINGS_CANARY": "off",  # its checks would be calls, too
        "OPENAI_API_KEY": openai.api_key,
        "OPENAI_BASE_URL": openai.base_url,
        "UPSTREAM_EU_API_KEY": openai.api_key,
        "LOCAL_API_URL": held.base_url,
        "EMBEDDINGS_REQUEST_TIMEOUT": "300",  # while one is held
    }
    folder = tmp_path_factory.mktemp("nodes")
    first = First(folder / "first", **environment)
    first.wait_until_ready()
    servers: list[Server] = [first]
    try:
        first.database_url = environment["DATABASE_URL"]
        first.client = Client(first)
        first.job = new_job(first)
        assert held.asked.wait(JOB_SECONDS), first.output[-2000:]
        copy = folder / "copy"
        kept = shutil.ignore_patterns("prepared", "tiktoken", "node", "metrics")
        shutil.copytree(first.data_dir, copy, ignore=kept)
        lay_out_weights(copy)
        environment["EMBEDDINGS_DIMENSION_POLICY"] = "pad"
        second = Server(folder / "second", data_dir=copy, **environment)
        servers.append(second)
        second.wait_until_ready()
        held.let_go.set()
        yield first, second
    finally:
        for server in servers:
            server.end()


@pytest.fixture(scope="module")
def client(nodes):
    return nodes[0].client


@pytest.fixture(scope="module")
def console(nodes):
    return Console(nodes[0])


def new_job(server):
    """Start a job; return its path."""
    ask = server.client.call
    text = " ".join(f"This is sentence number {number}." for number in range(300))
    item = ask(server, "POST", "/media", title="Long", content=text).json()
    path = f"/media/{item['media_id']}/embeddings"
    job = ask(server, "POST", path, embedding_model=SLOW_MODEL, **CHUNK).json()
    return f"/media/embeddings/jobs/{job['job_id']}"


def test_a_worker_with_a_copied_folder_leaves_the_jobs_of_the_other_alone(
    nodes, client
):
    first, second = nodes
    answer = poll(
        lambda: ended(client.call(second, "GET", first.job).json()),
        seconds=JOB_SECONDS,
        what="the job's end",
    )
    assert (answer["status"], answer["attempts"]) == ("completed", 1), answer
    assert "media_job_lost" not in second.output


def ended(job):
    return job if job["status"] in ("completed", "failed") else None


def test_a_breaker_that_opens_on_one_node_is_open_on_the_other(
    nodes, client, upstreams
):
    first, second = nodes
    openai, _ = upstreams
    reset = "/embeddings/circuit-breakers/openai/reset"
    assert client.embed(second) == {(200, "openai")}
    openai.fault = Fault.UNAUTHORIZED  # not retried, so one request is one call
    try:
        client.embed(first)
        openai.calls.clear()
        time.sleep(LOOK_AGAIN_SECONDS)
        assert client.embed(second) == {(200, "huggingface")}
        assert openai.calls == []
    finally:
        openai.fault = None
        assert client.call(second, "POST", reset).status_code == 200
    assert client.embed(first) == {(200, "openai")}


def test_what_the_console_of_one_node_changes_holds_on_the_other(
    nodes, client, console, upstreams
):
    second = nodes[1]
    openai, _ = upstreams
    eu = f"eu:{OPENAI}"
    assert client.embed(second, eu) == {(404, None)}
    console.add("eu", kind="openai", base_url=openai.base_url)
    time.sleep(REFRESH_SECONDS)
    assert client.embed(second, eu) == {(200, "eu")}
    console.post(
        "/providers/allowlistentry/add/", kind="provider", pattern="huggingface"
    )
    time.sleep(REFRESH_SECONDS)
    assert client.embed(second, eu) == {(403, None)}
    assert client.embed(second, LOCAL_MODEL) == {(200, "huggingface")}
    console.remove("allowlistentry", "huggingface")
    console.delete("eu")
    time.sleep(REFRESH_SECONDS)
    assert client.embed(second, eu) == {(404, None)}


def test_a_key_that_is_revoked_on_one_node_is_refused_on_the_other(nodes, client):
    first, second = nodes
    key = client.call(first, "POST", "/auth/keys", name="short-lived").json()
    headers = {"X-API-KEY": key["key"]}
    for _ in range(8):
        assert client.call(second, "GET", "/models", headers=headers).ok
    assert client.call(first, "DELETE", f"/auth/keys/{key['id']}").ok
    time.sleep(FRESH_SECONDS)
    for _ in range(8):
        answer = client.call(second, "GET", "/models", headers=headers)
        assert answer.status_code == 401


def test_a_session_of_one_node_s_console_counts_on_the_other(nodes, console):
    page = console.session.get(f"{nodes[1].url}/admin/", timeout=60)
    assert page.url == f"{nodes[1].url}/admin/"
    assert "Overview" in page.text


def test_a_text_that_one_node_embedded_is_cached_for_the_other(
    nodes, client, upstreams
):
    first, second = nodes
    openai, _ = upstreams
    body = {"input": secrets.token_hex(8), "model": OPENAI}
    before = settled(
        lambda: rows_in_redis(client, second), what="the rows of earlier requests"
    )
    assert client.call(first, "POST", "/embeddings", **body).ok
    poll(lambda: rows_in_redis(client, second) > before, what="the row in Redis")
    openai.calls.clear()
    assert client.call(second, "POST", "/embeddings", **body).ok
    assert openai.calls == []


def rows_in_redis(client, server):
    health = client.call(server, "GET", "/embeddings/health").json()
    return health["cache_stats"]["size"]


def test_a_setting_in_which_a_node_differs_is_logged_at_its_start_and_shown(
    nodes, console
):
    first, second = nodes
    lines = poll(
        lambda: [x for x in second.log_lines() if x["event"] == "node_differs"],
        what=second.output[-2000:],
    )
    assert [line["setting"] for line in lines] == ["EMBEDDINGS_DIMENSION_POLICY"]
    assert "node_differs" not in first.output
    ((models,), *others) = databases.rows_of(
        first.database_url, "SELECT prepared FROM embeddings_node"
    )
    assert models[DEFAULT_MODEL]
    assert others == [(models,)]  # so no model is among the differences
    page = console.session.get(f"{first.url}/admin/", timeout=60).text
    assert "EMBEDDINGS_DIMENSION_POLICY differs between nodes" in page
