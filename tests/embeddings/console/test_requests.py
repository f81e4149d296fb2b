"""The log of the last requests."""

import pytest

from tests.fakes import MINILM

URL = "/admin/embeddings/loggedrequest/"
SECRET = "the secret of the pyramids"


@pytest.fixture
def requests(post, client):
    post({"input": SECRET, "model": "text-embedding-3-small"})
    post({"input": "a", "model": f"huggingface:{MINILM}"})
    post({"input": "", "model": f"onnx:{MINILM}"})


def listed(client, **query):
    page = client.get(URL, query)
    return [row.asked for row in page.context_data["cl"].result_list]


def test_last_requests_are_listed_without_their_texts(admin_client, requests):
    assert len(listed(admin_client)) == 3
    page = admin_client.get(URL).content.decode()
    assert "POST /api/v1/embeddings" in page
    assert SECRET not in page


@pytest.mark.parametrize(
    ("outcome", "count"), [("answered", 2), ("failed", 1), ("fallback", 1), ("slow", 0)]
)
def test_outcomes_narrow_the_list(admin_client, requests, outcome, count):
    assert len(listed(admin_client, outcome=outcome)) == count


def test_request_is_found_by_its_id(admin_client, post):
    answers = [post({"input": text, "model": f"onnx:{MINILM}"}) for text in "ab"]
    found = listed(admin_client, q=answers[0]["X-Request-ID"])
    assert len(found) == 1


def test_request_shows_where_its_time_went(admin_client, requests):
    row = admin_client.get(URL).context_data["cl"].result_list[1]
    page = admin_client.get(f"{URL}{row.pk}/change/").content.decode()
    assert "tokenise" in page
    assert "HTTP, cache and all else" in page
    assert 'name="_save"' not in page
