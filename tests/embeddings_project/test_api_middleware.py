import pytest
from django.test import Client

MODELS = "/api/v1/embeddings/models"


@pytest.fixture
def browser():
    return Client()


# What a page says of itself rather than of how browsers are to treat it.
OF_THE_PAGE = {
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
        ("localhost", 200),
    ]:
        answer = client.get(MODELS, headers={"Host": host})
        assert answer.status_code == status, host


def test_session_of_the_console_means_nothing_to_the_api(browser, admin_user):
    browser.force_login(admin_user)
    assert browser.get("/admin/").status_code == 200
    assert browser.get(MODELS).status_code == 401
