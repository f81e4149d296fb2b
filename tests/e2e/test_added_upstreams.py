"""Upstreams that are added and deleted in the console of a running server, in all its workers."""

import re
import time
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import requests

from providers.operator_settings import REFRESH_SECONDS
from tests.upstreams import Fault, OpenAIUpstream, TeiUpstream, vectors_for
from tests.waiting import poll

SMALL = "text-embedding-3-small"


class Console:
    """A browser at the console, logged in with what the first start printed."""

    def __init__(self, server):
        self._admin = f"{server.url}/admin"
        self.session = requests.Session()
        found = re.search(r"Login +admin / (\S+)", server.output)
        assert found is not None
        self.post("/login/", username="admin", password=found[1], next="/admin/")

    def post(self, path, **fields):
        address = self._admin + path
        self.session.get(address, timeout=60)
        token = self.session.cookies["csrftoken"]
        answer = self.session.post(
            address,
            {**fields, "csrfmiddlewaretoken": token},
            headers={"Referer": address},
            allow_redirects=False,
            timeout=60,
        )
        assert answer.status_code == 302, answer.text

    def add(self, name, **fields):
        self.post("/providers/providersetting/add/", name=name, enabled="on", **fields)

    def delete(self, name):
        self.remove("providersetting", name)

    def remove(self, kind, name):
        """Delete the row of this kind that the list calls so."""
        listed = self.session.get(f"{self._admin}/providers/{kind}/", timeout=60).text
        found = re.search(rf"{kind}/(\d+)/change/[^>]*>\s*{name}\s*<", listed)
        assert found is not None, listed
        self.post(f"/providers/{kind}/{found[1]}/delete/", post="yes")


class Upstream(OpenAIUpstream):
    api_key = "sk-stub-key-of-eu-0123456789"


class Tei(TeiUpstream):
    key_required = True
    api_key = "stub-key-of-the-gpu-0123456789"


@pytest.fixture
def upstreams():
    with ExitStack() as stack:
        made = OpenAIUpstream(), Upstream(), Tei()
        yield [stack.enter_context(one) for one in made]


def test_added_upstreams_answer_in_all_workers_until_they_are_deleted(
    launch, upstreams
):
    official, eu, gpu = upstreams
    environment: dict[str, Any] = {
        "WEB_CONCURRENCY": "2",
        "EMBEDDINGS_CANARY": "off",
        "OPENAI_API_KEY": official.api_key,
        "OPENAI_BASE_URL": official.base_url,
        "UPSTREAM_EU_API_KEY": eu.api_key,
        "UPSTREAM_MY_GPU_API_KEY": gpu.api_key,
        "EMBEDDINGS_FALLBACK_CHAIN": '{"openai": ["eu"], "eu": ["nobody"]}',
    }
    server = launch(**environment).wait_until_ready()
    for warning in (
        "EMBEDDINGS_FALLBACK_CHAIN names nobody",
        "EMBEDDINGS_FALLBACK_CHAIN names eu",
        "UPSTREAM_MY_GPU_API_KEY is the key of no provider",
    ):
        assert f"Warning: {warning}" in server.output
    console = Console(server)
    console.add("eu", kind="openai", base_url=eu.base_url)
    console.add("my-gpu", kind="local_api", base_url=gpu.base_url, wire="tei")

    def statuses(model):
        asked = [{"input": f"{model} {n}", "model": model} for n in range(8)]
        return {server.post(body).status_code for body in asked}

    time.sleep(REFRESH_SECONDS)
    for model in (f"eu:{SMALL}", "my-gpu:any"):
        assert statuses(model) == {200}
    assert official.calls == []

    answer = server.post({"input": "whose", "model": f"eu:{SMALL}"})
    vector = answer.json()["data"][0]["embedding"]
    np.testing.assert_allclose(vector, vectors_for(["whose"], 1536)[0], atol=1e-6)
    assert answer.headers["X-Embeddings-Vector-Space"] == f"eu:{SMALL}"
    assert answer.json()["model"] == f"eu:{SMALL}"
    answer = server.post({"input": "whose", "model": "my-gpu:any"})
    assert answer.headers["X-Embeddings-Vector-Space"] == "my-gpu:any"
    assert 'embedding_requests_total{model="other",provider="my-gpu"}' in (
        server.get("/metrics").text
    )

    official.fault = Fault.UNAUTHORIZED
    answer = server.post({"input": "falls back", "model": SMALL})
    assert answer.headers["X-Embeddings-Provider"] == "eu"
    assert answer.headers["X-Embeddings-Fallback-From"] == "openai"

    console.delete("eu")
    time.sleep(REFRESH_SECONDS)
    assert statuses(f"eu:{SMALL}") == {404}

    def eu_has_no_breaker():
        asked = [breakers(server) for _ in range(8)]
        return all("eu" not in names and "my-gpu" in names for names in asked)

    poll(eu_has_no_breaker, seconds=20, what="eu has no breaker in any worker")
    for upstream in upstreams:
        assert upstream.api_key not in server.output


def breakers(server):
    listed = server.get("/api/v1/embeddings/circuit-breakers").json()["data"]
    return {one["provider"] for one in listed}
