"""Pages of other origins, where the operator names some."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from rest_framework.test import APIClient

from embeddings.api.requests import STEERING_HEADERS
from tests.conftest import KEY
from tests.fakes import MINILM

URL = "/api/v1/embeddings"
APP, OTHER = "https://app.example", "https://evil.example"
CORS = "corsheaders.middleware.CorsMiddleware"
OWN = ("x-embeddings-", "x-ratelimit-", "x-request-id", "retry-after", "x-should-retry")


@pytest.fixture
def opened(settings, fakes):
    """Let one origin in, as the setting does."""
    settings.CORS_ALLOWED_ORIGINS = [APP]
    settings.MIDDLEWARE = [CORS, *settings.MIDDLEWARE]


def preflight(path=URL, origin=APP):
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key,content-type",
    }
    return APIClient().options(path, headers=asked)


def test_nobody_is_let_in_by_default(client, fakes):
    assert preflight().status_code == 401
    answer = client.get(f"{URL}/models", headers={"Origin": APP})
    assert "Access-Control-Allow-Origin" not in answer
    assert "Vary" not in answer


def test_preflight_of_the_named_origin_needs_no_key(opened):
    answer = preflight()
    assert answer.status_code == 200
    assert answer["Access-Control-Allow-Origin"] == APP
    allowed = answer["Access-Control-Allow-Headers"].lower().split(", ")
    steering = {name.lower() for name in STEERING_HEADERS}
    assert {"authorization", "x-api-key", "x-provider", "*", *steering} <= {*allowed}
    assert "POST" in answer["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in answer


def test_preflight_of_another_origin_allows_nothing(opened):
    assert "Access-Control-Allow-Origin" not in preflight(origin=OTHER)


def test_console_is_opened_to_nobody(opened):
    answer = preflight(path="/admin/login/")
    assert "Access-Control-Allow-Origin" not in answer


def test_request_still_needs_its_key(opened):
    answer = APIClient().get(f"{URL}/models", headers={"Origin": APP})
    assert answer.status_code == 401
    assert answer["Access-Control-Allow-Origin"] == APP  # so that the page may read why


def test_page_may_read_every_header_of_ours(opened, settings, configure):
    limiter = replace(settings.EMBEDDINGS.limiter, embeddings=True)
    configure(limiter=limiter)
    body = {"input": "word " * 3000, "model": f"onnx:{MINILM}", "dimensions": 4}
    answer = APIClient().post(
        URL,
        body,
        format="json",
        headers={"Origin": APP, "X-API-KEY": KEY, "X-Embeddings-Truncate": "end"},
    )
    assert answer.status_code == 200, answer.content
    exposed = answer["Access-Control-Expose-Headers"].lower().split(", ")
    ours = {name.lower() for name in answer.headers if name.lower().startswith(OWN)}
    assert {"x-embeddings-truncated", "x-ratelimit-limit-requests"} <= ours
    assert ours <= {*exposed}


@pytest.mark.parametrize("origins", ["", APP])
def test_setting_puts_it_before_what_leads_the_api_past_the_rest(origins, tmp_path):
    code = (
        "import json; from embeddings_project import settings as s;"
        "print(json.dumps([s.MIDDLEWARE, s.CORS_ALLOWED_ORIGINS]))"
    )
    environment = {
        **os.environ,
        "DATA_DIR": str(tmp_path),
        "CORS_ALLOWED_ORIGINS": origins,
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    middleware, allowed = json.loads(done.stdout)
    assert allowed == ([APP] if origins else [])
    assert (CORS in middleware) is bool(origins)
    if origins:
        api = "embeddings_project.api_middleware.ApiMiddleware"
        assert middleware.index(CORS) < middleware.index(api)
