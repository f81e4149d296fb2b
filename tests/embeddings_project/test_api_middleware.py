from urllib.parse import unquote

import pytest
from django.test import Client

MODELS = "/api/v1/embeddings/models"


@pytest.fixture
def browser():
    return Client()


# What a page says of itself rather than of how browsers are to treat it.
OF_THE_PAGE = {
    "Content-Security-Policy",  # test_content_policy.py
    "Cache-Control",
    "Content-Language",
    "Content-Length",
    "Content-Type",
    "Expires",
    "Vary",
    "X-Request-ID",
}


@pytest.mark.parametrize("path", [MODELS, "/api/v1/nothing", "/healthz"])
def test_security_headers_are_those_of_pages_everywhere(client, browser, fakes, path):
    of_pages = dict(browser.get("/admin/login/").items())
    security = {name: of_pages[name] for name in of_pages.keys() - OF_THE_PAGE}
    assert security["X-Frame-Options"] == "DENY"
    assert security.items() <= dict(client.get(path).items()).items()


def test_length_of_an_answer_is_announced(client, fakes):
    answer = client.get(MODELS)
    assert int(answer["Content-Length"]) == len(answer.content)


def test_unknown_path_of_the_api_is_404_and_json(client):
    answer = client.get("/api/v1/nothing/")
    assert answer.status_code == 404
    assert "nothing" in answer.json()["detail"]


def test_foreign_host_is_refused_each_time_whoever_came_before(client, fakes):
    for host, status in [
        ("localhost", 200),
        ("evil.example", 400),
        ("evil.example", 400),
        ("", 400),
        ("localhost", 200),
    ]:
        answer = client.get(MODELS, headers={"Host": host})
        assert answer.status_code == status, host


def test_session_of_the_console_means_nothing_to_the_api(browser, admin_user):
    browser.force_login(admin_user)
    assert browser.get("/admin/").status_code == 200
    assert browser.get(MODELS).status_code == 401


PLAIN = {"input": "a", "model": "huggingface:sentence-transformers/all-MiniLM-L6-v2"}


@pytest.mark.parametrize(
    "path", ["/api/v1//embeddings", "//api/v1/embeddings", "/api///v1/embeddings//"]
)
def test_several_slashes_are_one_and_the_body_survives(client, fakes, path):
    for _ in range(2):
        answer = client.post("/", PLAIN, format="json", PATH_INFO=path)
        assert answer.status_code == 200
        assert answer.json()["usage"]["prompt_tokens"] == 1


@pytest.mark.parametrize(
    ("sent", "looked_for"),
    [
        ("/api/v1//models//a%2F%2Fb", "a//b"),
        ("/api/v1/models/a%2F%2Fb", "a//b"),
        ("http://localhost//api/v1/models//a%2Fb?x=//y", "a/b"),
        ("/api/v1/models/a//b", "a/b"),
        ("/api/v1//models/%C3%A4%2F%2F%25", "ä//%"),
    ],
)
def test_slashes_that_were_sent_encoded_stay_as_they_are(
    client, fakes, sent, looked_for
):
    path = unquote(sent.partition("://localhost")[2] or sent).partition("?")[0]
    answer = client.get("/", PATH_INFO=path, RAW_URI=sent)
    assert answer.status_code == 404
    assert f"'{looked_for}'" in answer.json()["detail"]


def test_prefix_of_the_front_is_no_part_of_the_path(client, fakes):
    front = {"RAW_URI": "/app/api/v1//embeddings/models", "SCRIPT_NAME": "/app"}
    answer = client.get("/api/v1//embeddings/models", **front)
    assert answer.status_code == 200


def test_header_without_a_value_is_one_that_was_not_sent(client, fakes):
    empty = dict.fromkeys(
        (
            "x-provider",
            "X-Embeddings-Fallback",
            "X-Embeddings-Truncate",
            "X-Embeddings-Token-Encoding",
            "X-Embeddings-Input-Type",
            "Content-Encoding",
            "Authorization",
            "Accept",
            "X-Request-ID",
        ),
        "",
    )
    answer = client.post("/api/v1/embeddings", PLAIN, format="json", headers=empty)
    assert answer.status_code == 200, answer.content
    assert answer["X-Request-ID"]
