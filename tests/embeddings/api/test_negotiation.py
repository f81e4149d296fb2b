import pytest
from django.test import Client

URL = "/api/v1/embeddings/models"
ACCEPTS = [
    "application/json",
    "*/*",
    "text/html, application/*;q=0.5",
    "text/html",
    "text/event-stream",
    "text/plain",
    "application/vnd.api+json",
    "text/csv",
    "application/json;q=0",
    "nonsense",
    "",
    None,
]


@pytest.mark.parametrize("accept", ACCEPTS)
def test_json_is_answered_whatever_the_client_says_it_takes(client, fakes, accept):
    headers = {} if accept is None else {"Accept": accept}
    for path in (URL, "/api/v1/embeddings/health", "/healthz", "/readyz"):
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
    answer = client.get("/openapi.json", headers=headers)
    assert answer.status_code == 200
    assert answer.json()["openapi"]


@pytest.mark.parametrize("accept", ["text/html", "text/event-stream"])
def test_errors_are_json_whatever_the_client_says_it_takes(client, fakes, accept):
    headers = {"Accept": accept}
    wrong = client.post("/api/v1/embeddings", {}, format="json", headers=headers)
    assert (wrong.status_code, wrong["Content-Type"]) == (400, "application/json")
    for path, status in ((URL, 401), ("/api/v1/nothing", 404)):
        answer = Client().get(path, headers=headers)
        assert (answer.status_code, answer["Content-Type"]) == (
            status,
            "application/json",
        )


@pytest.mark.parametrize("name", ["xml", "csv", "json", "api", ""])
def test_format_in_the_query_changes_nothing_where_there_is_one(client, fakes, name):
    answer = client.get(f"{URL}?format={name}")
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize(
    ("query", "accept", "is_csv"),
    [
        ("?format=csv", "text/html", True),
        ("?format=json", "text/csv", False),
        ("?format=xml", "*/*", False),
        ("?format=xml", "text/csv", True),
        ("", "text/csv", True),
        ("", "text/csv; charset=utf-8", True),
        ("", "text/csv, */*;q=0.1", True),
        ("", "application/json, text/csv;q=0.5", False),
        ("", "text/html", False),
        ("", "", False),
    ],
)
def test_csv_is_answered_where_it_is_asked_for(client, fakes, query, accept, is_csv):
    answer = client.get(f"/api/v1/usage{query}", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith(
        "text/csv" if is_csv else "application/json"
    )
