"""What /openapi.json says; whether the server keeps to it is for the fuzz run to tell."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from rest_framework.test import APIClient

from embeddings.api.views.document import OnceGenerator


@pytest.fixture(params=["single_user", "multi_user"])
def operations(client, access, request):
    access(mode=request.param)
    paths = client.get("/openapi.json").json()["paths"]
    return {
        f"{method} {path}": operation
        for path, methods in paths.items()
        for method, operation in methods.items()
    }


def test_every_documented_answer_stands_under_its_status(operations):
    for name, operation in operations.items():
        assert all(status.isdigit() for status in operation["responses"]), name


def test_every_operation_documents_its_success(operations):
    for name, operation in operations.items():
        assert {"200", "201"} & set(operation["responses"]), name


def document(client):
    return client.get("/openapi.json").json()


def test_multi_user_mode_offers_both_headers(client, access):
    schema = document(client)
    schemes = schema["components"]["securitySchemes"]
    assert schemes["X-API-KEY"]["in"] == "header"
    assert schemes["Bearer"]["scheme"] == "bearer"
    embeddings = schema["paths"]["/api/v1/embeddings"]["post"]
    assert embeddings["security"] == [{"X-API-KEY": []}, {"Bearer": []}]


def test_multi_user_mode_documents_tokens_and_keys(client, access):
    paths = document(client)["paths"]
    login = paths["/api/v1/auth/token"]["post"]
    assert "security" not in login
    assert set(login["responses"]) >= {"200", "400", "401", "429"}
    assert "201" in paths["/api/v1/auth/keys"]["post"]["responses"]
    assert set(paths["/api/v1/auth/keys/{key_id}"]["delete"]["responses"]) >= {
        "200",
        "401",
        "403",
        "404",
    }


def test_server_with_a_public_key_documents_no_tokens(client, access):
    access(jwt_algorithm="RS256")
    paths = document(client)["paths"]
    assert "/api/v1/auth/token" not in paths
    assert "/api/v1/auth/keys" in paths


def test_single_user_mode_offers_its_one_header(client, configure):
    schema = document(client)
    assert list(schema["components"]["securitySchemes"]) == ["X-API-KEY"]
    assert not [path for path in schema["paths"] if "/auth/" in path]
    configure(single_user_accept_bearer=True)
    assert set(document(client)["components"]["securitySchemes"]) == {
        "X-API-KEY",
        "Bearer",
    }


def test_every_body_comes_with_an_example_that_can_be_sent(operations):
    for name, operation in operations.items():
        body = operation.get("requestBody")
        if body:
            assert body["content"]["application/json"].get("examples"), name


def test_document_is_served_to_many_at_once():
    OnceGenerator._made.clear()
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: APIClient().get("/openapi.json").status_code, range(16))
        )
    assert set(answers) == {200}
