"""What clients get with the fast path, held against what they get without it."""

from typing import Any

import pytest
from django.test import Client
from rest_framework.response import Response

from embeddings.api.views.models import ListModels
from embeddings.fast_path import rest_framework
from tests.conftest import KEY
from tests.fakes import MINILM

URL, MODELS = "/api/v1/embeddings", "/api/v1/embeddings/models"
BODY = {"input": ["a", "b c"], "model": f"onnx:{MINILM}"}
AS_JSON = {"content_type": "application/json"}
REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "floats": ("POST", URL, {"data": BODY}),
    "base64": ("POST", URL, {"data": {**BODY, "encoding_format": "base64"}}),
    "nulls": ("POST", URL, {"data": {**BODY, "user": None, "encoding_format": None}}),
    "null where a value is needed": ("POST", URL, {"data": {**BODY, "model": None}}),
    "unknown null": ("POST", URL, {"data": {**BODY, "what": None}}),
    "two mistakes": ("POST", URL, {"data": {"input": [], "dimensions": "4"}}),
    "long name": ("POST", URL, {"data": {**BODY, "model": "m" * 513}}),
    "NUL in the name": ("POST", URL, {"data": {**BODY, "model": "m\0"}}),
    "no object": ("POST", URL, {"data": "[1]"}),
    "no JSON": ("POST", URL, {"data": "{"}),
    "no body": ("POST", URL, {"data": ""}),
    "another type": ("POST", URL, {"data": "a=b", "content_type": "text/plain"}),
    "more of the type": (
        "POST",
        URL,
        {"data": BODY, "content_type": "application/json; charset=utf-8"},
    ),
    "batch": ("POST", f"{URL}/batch", {"data": {"texts": ["a"], "provider": "onnx"}}),
    "list": ("GET", MODELS, {}),
    "its head": ("HEAD", MODELS, {}),
    "options": ("OPTIONS", URL, {}),
    "unknown method": ("DELETE", URL, {}),
    "unknown path": ("GET", "/api/v1/nothing", {}),
    "slash at the end": ("GET", f"{MODELS}/", {}),
    "slashes": ("GET", "/", {"PATH_INFO": "//api//v1/embeddings/models"}),
    "csv": ("GET", "/api/v1/usage?format=csv", {}),
    "no key": ("GET", MODELS, {"headers": {"X-API-KEY": ""}}),
    "wrong key": ("POST", URL, {"data": BODY, "headers": {"X-API-KEY": "wrong"}}),
    "foreign host": ("GET", MODELS, {"headers": {"Host": "evil.example"}}),
    "cookie": ("GET", MODELS, {"headers": {"Cookie": "sessionid=a; csrftoken=b"}}),
    "over TLS": ("GET", MODELS, {"secure": True}),
    "document": ("POST", "/api/v1/media", {"data": {"title": "T", "content": "a\0"}}),
}


@pytest.fixture
def asked(settings, fakes):
    """Return a function that sends one of the requests, by its name, to a server of its own."""
    settings.SECURE_HSTS_SECONDS = 60

    def ask(name, *, fast):
        settings.EMBEDDINGS_FAST_PATH = fast
        method, path, options = REQUESTS[name]
        own = {"X-API-KEY": KEY, "X-Request-ID": "one", **options.get("headers", {})}
        client = Client(raise_request_exception=False)
        send = getattr(client, method.lower())
        return send(path, **{**AS_JSON, **options, "headers": own})

    return ask


def whole(answer):
    return answer.status_code, {**answer.headers}, answer.cookies, answer.content


@pytest.mark.parametrize("name", REQUESTS)
def test_answer_is_the_same_to_the_byte(asked, name):
    assert whole(asked(name, fast=True)) == whole(asked(name, fast=False))


def test_failure_of_a_view_is_answered_the_same(asked, monkeypatch):
    monkeypatch.setattr(ListModels, "authentication_classes", None)
    fast, plain = (whole(asked("list", fast=fast)) for fast in (True, False))
    assert fast[0] == 500
    assert fast == plain


@pytest.mark.parametrize("fast", [True, False])
def test_api_redirects_nobody(asked, settings, fast):
    settings.SECURE_SSL_REDIRECT = True
    assert asked("list", fast=fast).status_code == 200


def test_hsts_is_said_over_tls_alone_whoever_came_before(client, fakes, settings):
    settings.SECURE_HSTS_SECONDS = 60
    for secure in (False, True, False):
        said = client.get(MODELS, secure=secure)
        assert ("Strict-Transport-Security" in said) is secure


class Marked:
    """A middleware of somebody else."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        response["X-Seen"] = "yes"
        return response


@pytest.mark.parametrize("fast", [True, False])
def test_middleware_of_pages_sees_the_api_only_without(asked, settings, fast):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.Marked"]
    assert ("X-Seen" in asked("list", fast=fast)) is not fast
    assert "X-Seen" in Client().get("/healthz")


def test_without_it_rest_framework_does_its_part_itself(asked, monkeypatch):
    assert not isinstance(asked("floats", fast=True), Response)
    for short_way in ("_checker", "_body", "HttpResponse"):
        monkeypatch.delattr(rest_framework, short_way)
    assert isinstance(asked("floats", fast=False), Response)
