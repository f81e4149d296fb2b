"""What /openapi.json says; whether the server keeps to it is for the fuzz run to tell."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from rest_framework.test import APIClient

from embeddings.api.views.document import OnceGenerator


@pytest.fixture
def operations(client):
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
        assert "200" in operation["responses"], name


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
