"""The headers of answers, held against what /openapi.json says of them."""

import functools
from dataclasses import replace

import pytest
from rest_framework.test import APIClient

from embeddings.access.limiter.limiter import Limiter
from embeddings.access.limiter.sqlite_buckets import SqliteBuckets
from embeddings.conf import conf
from embeddings.headers import DESCRIBED, MEMBER, REQUEST_ID
from embeddings.services.callers import SINGLE_USER, CallerLimits
from tests.fakes import MINILM

URL = "/api/v1/embeddings"
ONNX = {"input": "a", "model": f"onnx:{MINILM}"}
LONG = " ".join(["word"] * 11)
OF_HTTP = {"Allow", "Content-Length", "Content-Type", "Vary"}


def carried(response):
    of_pages = set(APIClient().get("/nothing").headers) - {REQUEST_ID}
    return set(response.headers) - OF_HTTP - of_pages


@functools.cache
def document(mode):
    """What /openapi.json says in a mode, which is all that it depends on here."""
    return APIClient().get("/openapi.json").json()["paths"]


def documented(path, method, status):
    operation = document(conf().access.mode)[path][method]
    return operation["responses"][str(status)]["headers"]


def check(response, path, *, status, method="post"):
    """Assert that the document says it, and return what the answer carries."""
    assert response.status_code == status, response.content
    said, found = documented(path, method, status), carried(response)
    assert found <= set(said)
    assert {name for name, header in said.items() if header.get("required")} <= found
    return found


@pytest.fixture
def drifting(fakes, monkeypatch):
    first, *others = fakes["onnx"].specs
    specs = (replace(first, drifted=True), *others)
    monkeypatch.setattr(type(fakes["onnx"]), "specs", specs)


@pytest.fixture
def limited(monkeypatch, settings, configure, tmp_path):
    """A caller with limits of its own: three requests at once."""
    store = SqliteBuckets(tmp_path / "limiter.sqlite3")
    own = Limiter(store)
    monkeypatch.setattr("embeddings.access.throttling.limiter", lambda: own)
    configure(limiter=replace(settings.EMBEDDINGS.limiter, embeddings=True))
    limits = CallerLimits(requests_per_minute=1, burst=3, tokens_per_minute=60)
    caller = replace(SINGLE_USER, limits=limits)
    monkeypatch.setattr("embeddings.access.authentication.SINGLE_USER", caller)
    yield
    store.close()


@pytest.fixture
def found(post, client, drifting, limited):
    """All headers that answers of every kind carry, each answer held against the document."""
    fallback = post(
        {"input": ["a", LONG], "model": "text-embedding-3-small", "dimensions": 3},
        **{"X-Embeddings-Truncate": "end"},
    )
    ready = post(ONNX)
    alone = {"X-Embeddings-Fallback": "off"}
    not_ready = post({"input": "a", "model": "text-embedding-3-small"}, **alone)
    documents, health = "/api/v1/media", "/healthz"
    return (
        check(fallback, URL, status=200)
        | check(ready, URL, status=200)
        | check(not_ready, URL, status=409)
        | check(post(ONNX), URL, status=429)
        | check(APIClient().post(URL, ONNX), URL, status=401)
        | check(client.get(documents), documents, status=200, method="get")
        | check(APIClient().get(health), health, status=200, method="get")
    )


def test_every_header_of_an_answer_is_in_the_document_and_the_reverse(found):
    assert found | {"Cache-Control", MEMBER} == set(DESCRIBED)
    assert MEMBER in documented(URL, "post", 200)  # carried in test_pools.py


def test_secrets_are_documented_as_not_kept(ada):
    path = "/api/v1/auth/token"
    body = {"username": "ada", "password": "correct horse battery"}
    answer = APIClient().post(path, body, format="json")
    assert "Cache-Control" in check(answer, path, status=200)


def test_search_documents_the_headers_of_its_query_s_vector(client, fakes):
    path = "/api/v1/media/embeddings/search"
    answer = client.post(path, {"query": "a"}, format="json")
    check(answer, path, status=200)
    assert "X-Embeddings-Vector-Space" in documented(path, "post", 200)


def test_only_what_is_limited_documents_limits(client, db):
    limit = "x-ratelimit-limit-requests"
    assert limit in documented("/api/v1/media", "post", 201)
    assert limit not in documented("/api/v1/media", "get", 200)
    assert limit not in documented("/api/v1/embeddings/models", "get", 200)
    assert limit not in documented(URL, "post", 500)


def test_who_fails_to_authenticate_has_no_limit_of_tokens(client, db):
    said = documented(URL, "post", 401)
    assert "x-ratelimit-limit-requests" in said
    assert "x-ratelimit-limit-tokens" not in said


def test_pages_of_other_origins_may_read_what_is_documented(settings):
    hidden = {"Cache-Control", "WWW-Authenticate"}
    assert set(settings.CORS_EXPOSE_HEADERS) == set(DESCRIBED) - hidden
