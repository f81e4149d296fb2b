import json
import logging

import pytest
from rest_framework.test import APIClient

from providers.exceptions import ProviderUnavailable
from tests.fakes import MINILM

HEALTH = "/api/v1/embeddings/health"


@pytest.fixture(autouse=True)
def _fakes(fakes):
    pass


def test_health_is_open_and_proven_by_inference(fakes):
    body = APIClient().get(HEALTH).json()
    assert body["status"] == "healthy"
    assert body["active_requests"] == 0
    assert set(body["cache_stats"]) >= {"size", "max_size", "ttl_seconds"}
    assert fakes["huggingface"].calls == [["health"]]


def test_health_is_503_degraded_when_inference_fails(fakes):
    for name in ("huggingface", "onnx"):
        fakes[name].fault = ProviderUnavailable("The engine is gone.")
    response = APIClient().get(HEALTH)
    assert response.status_code == 503
    assert response.json()["status"] == "degraded"
    assert response.json()["problem"] == "The engine is gone."
    assert APIClient().get("/readyz").status_code == 503
    assert APIClient().get("/healthz").status_code == 200


def test_a_fresh_proof_is_not_repeated(fakes):
    for _ in range(5):
        APIClient().get(HEALTH)
    assert len(fakes["huggingface"].calls) == 1


def test_cache_is_cleared(client, post):
    post({"input": ["a", "b"], "model": f"onnx:{MINILM}"})
    assert client.delete("/api/v1/embeddings/cache").json()["cleared"] == 2
    assert APIClient().get(HEALTH).json()["cache_stats"]["size"] == 0


def test_request_id_is_the_client_s_own_if_sane():
    given = {"X-Request-ID": "job-7.1"}
    response = APIClient().get("/healthz", headers=given)
    assert response.headers["X-Request-ID"] == "job-7.1"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", "é"])
def test_request_id_is_new_otherwise(given):
    response = APIClient().get("/healthz", headers={"X-Request-ID": given})
    assert response.headers["X-Request-ID"] not in ("", given)


def test_request_id_is_in_every_log_line_and_the_text_in_none(client, post, caplog):
    with caplog.at_level(logging.DEBUG):
        post(
            {"input": "my secret text", "model": "text-embedding-3-small"},
            **{"X-Request-ID": "trace-me"},
        )
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert lines
    assert {line["request_id"] for line in lines} == {"trace-me"}
    assert "secret" not in json.dumps(lines)


def test_unknown_path_is_a_json_404():
    response = APIClient().get("/api/v1/nothing")
    assert response.status_code == 404
    assert "/docs" in response.json()["detail"]
    assert response.json()["error"]["code"] == "not_found"


def test_wrong_method_is_a_json_405(client):
    response = client.get("/api/v1/embeddings")
    assert response.status_code == 405
    assert response.headers["Allow"]
    assert response.json()["error"]["code"] == "method_not_allowed"


def test_foreign_host_is_refused_and_the_setting_named():
    response = APIClient().get("/healthz", headers={"Host": "evil.example"})
    # /healthz asks for no host; the console does.
    assert response.status_code in (200, 400)
    response = APIClient().get("/admin/", headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert "ALLOWED_HOSTS" in response.json()["detail"]


def test_foreign_host_is_no_error_in_the_log(caplog):
    APIClient().get("/admin/", headers={"Host": "evil.example"})
    assert not [record for record in caplog.records if record.exc_info]


def test_unforeseen_failure_is_a_json_500_without_its_inside(fakes):
    fakes["onnx"].fault = RuntimeError("inner secret")
    client = APIClient(
        raise_request_exception=False,
        headers={"X-API-KEY": "test-key-0123456789abcdef"},
    )
    body = {"input": "a", "model": f"onnx:{MINILM}"}
    response = client.post("/api/v1/embeddings", body, format="json")
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "inner secret" not in response.content.decode()
