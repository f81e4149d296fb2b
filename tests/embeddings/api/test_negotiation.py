import pytest

URL = "/api/v1/embeddings/models"


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", "text/html, application/*;q=0.5", None]
)
def test_json_is_answered_to_whoever_takes_it(client, fakes, accept):
    headers = {"Accept": accept} if accept else {}
    answer = client.get(URL, headers=headers)
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")


def test_whoever_takes_only_something_else_is_refused(client, fakes):
    assert client.get(URL, headers={"Accept": "text/html"}).status_code == 406


def test_unknown_format_is_refused(client, fakes):
    assert client.get(f"{URL}?format=xml").status_code == 404
