"""Who may read /metrics."""

from dataclasses import replace

import pytest
from rest_framework.test import APIClient

from embeddings.checks import check_metrics_token
from tests.conftest import KEY
from tests.embeddings.multi_user import bearer
from tests.embeddings.staff import give

TOKEN = "a-token-of-the-scraper-0123"


@pytest.fixture
def open_to(settings, configure):
    """Return a function that changes who may read."""

    def change(**changes):
        configure(access=replace(settings.EMBEDDINGS.access, **changes))

    return change


def status(peer="192.0.2.1", **headers):
    response = APIClient(REMOTE_ADDR=peer).get("/metrics", headers=headers)
    if response.status_code == 200:
        assert response.headers["Content-Type"].startswith("text/plain")
        assert b"# TYPE" in response.content
    return response.status_code


pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_scraper_on_this_machine_needs_nothing(peer):
    assert status(peer) == 200


@pytest.mark.parametrize("peer", ["192.0.2.1", "10.0.0.1", "fe80::1", ""])
def test_others_are_401_with_the_ways_in(peer):
    response = APIClient(REMOTE_ADDR=peer).get("/metrics")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    detail = response.json()["detail"]
    for way in ("METRICS_TOKEN", "admin's key", "METRICS_OPEN=true"):
        assert way in detail


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "Forwarded",
        "Via",
        "X-Real-IP",
    ],
)
def test_peer_that_speaks_for_another_is_not_local(header):
    assert status("127.0.0.1", **{header: "198.51.100.7"}) == 401


def test_nobody_is_local_behind_proxies(open_to):
    open_to(trusted_proxies=1)
    assert status("127.0.0.1") == 401
    assert status("127.0.0.1", **{"X-Forwarded-For": "127.0.0.1"}) == 401


def test_token_lets_a_scraper_in_and_nowhere_else(open_to):
    open_to(metrics_token=TOKEN)
    assert status(**bearer(TOKEN)) == 200
    assert status(**bearer(TOKEN[:-1])) == 401
    assert status(**{"X-API-KEY": TOKEN}) == 401
    client = APIClient(REMOTE_ADDR="192.0.2.1", headers=bearer(TOKEN))
    assert client.get("/api/v1/embeddings/metrics").status_code == 401


def test_empty_token_lets_nobody_in():
    assert status(Authorization="Bearer ") == 401
    assert status(Authorization="Bearer x") == 401


def test_server_s_key_lets_in():
    assert status(**{"X-API-KEY": KEY}) == 200
    assert status(**{"X-API-KEY": KEY[:-1]}) == 401


def test_opened_by_the_operator_it_is_open(open_to):
    open_to(metrics_open=True, trusted_proxies=1)
    assert status() == 200


def test_admins_with_the_permission_read_and_others_are_403(
    make_user, key_of, client_of, fakes
):
    staff = make_user("staff", is_staff=True)
    assert status(**bearer(key_of(staff))) == 403
    give(staff, "view_usagehour")
    assert status(**bearer(key_of(staff))) == 200
    assert status(**bearer(key_of(staff, read_only_media=True))) == 403
    assert status(**bearer("sk-wrong")) == 401


def test_guesses_of_the_token_are_counted(open_to, monkeypatch):
    counted = []
    monkeypatch.setattr(
        "embeddings.access.scrapers.refuse_guess", lambda _, kind: counted.append(kind)
    )
    open_to(metrics_token=TOKEN)
    status(**bearer("wrong"))
    status()
    status(**bearer(TOKEN))
    assert counted == ["metrics token"]


@pytest.mark.parametrize("token", ["short", "a" * 20, "changeme-changeme", "ä" * 16])
def test_weak_token_stops_the_start(open_to, token):
    open_to(metrics_token=token)
    [error] = check_metrics_token()
    assert (error.id, "METRICS_TOKEN" in error.msg) == ("embeddings.E010", True)


def test_good_token_and_none_start(open_to):
    assert check_metrics_token() == []
    open_to(metrics_token=TOKEN)
    assert check_metrics_token() == []
