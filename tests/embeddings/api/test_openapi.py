"""What /openapi.json says; whether the server keeps to it is for the fuzz run to tell."""

import pytest


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
