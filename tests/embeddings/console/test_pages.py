"""What all pages of the console share: their menu, who may open them, what they may do, the reader's time zone."""

import pytest
from django.test import Client

from embeddings.console.page import ConsolePage, navigation
from embeddings.models import AuditEntry, LoggedRequest
from providers.models import Breaker
from tests.embeddings.staff import Staff, give


@pytest.fixture
def staff(make_user):
    return Staff(make_user)


def as_user(user):
    client = Client()
    client.force_login(user)
    return client


def titles(rf, user):
    request = rf.get("/admin/")
    request.user = user
    return {item["title"] for group in navigation(request) for item in group["items"]}


def test_menu_lists_what_its_reader_may_open(rf, staff):
    assert {"Overview", "Usage", "Users", "Requests"} <= titles(rf, staff["boss"])
    assert "Usage" in titles(rf, staff["viewer"])
    assert titles(rf, staff["keyman"]).isdisjoint({"Usage", "Users", "Requests"})


def test_page_without_its_permission_is_refused(staff):
    assert as_user(staff["viewer"]).get("/admin/usage/").status_code == 200
    assert as_user(staff["keyman"]).get("/admin/usage/").status_code == 403


def test_page_sends_strangers_to_the_login(client, db):
    answer = client.get("/admin/usage/")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")


def test_action_takes_its_permission_and_is_audited(staff):
    Breaker.objects.create(provider="openai", state="open")
    form = {"action": "reset", "provider": "openai"}
    for name in ("viewer", "keyman"):
        assert as_user(staff[name]).post("/admin/", form).status_code == 403
    assert Breaker.objects.get().state == "open"
    give(staff["keyman"], "change_breaker")
    assert as_user(staff["keyman"]).post("/admin/", form).status_code == 302
    assert Breaker.objects.get().state == "closed"
    entry = AuditEntry.objects.get(action="reset")
    assert (entry.actor, entry.before, entry.after) == (
        "keyman",
        {"state": "open"},
        {"state": "closed"},
    )


@pytest.mark.parametrize("name", ["", "show", "note", "post", "nonsense", "__init__"])
def test_only_actions_can_be_posted(staff, name):
    answer = as_user(staff["boss"]).post("/admin/", {"action": name})
    assert answer.status_code == 403


def test_action_without_a_csrf_token_is_refused(staff):
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff["boss"])
    assert client.post("/admin/", {"action": "reset"}).status_code == 403


def test_every_page_opens_and_its_parts_are_parts(staff):
    boss = as_user(staff["boss"])
    pages = [page for page in ConsolePage.every() if "<" not in page.route]
    assert len(pages) >= 2
    for page in pages:
        answer = boss.get(f"/admin/{page.route}")
        assert answer.status_code == 200, page
        assert b"<html" in answer.content
        for part in page.parts:
            answer = boss.get(f"/admin/{page.route}", {"part": part})
            assert answer.status_code == 200
            assert b"<html" not in answer.content


def test_times_are_in_the_readers_zone(staff):
    LoggedRequest.objects.create(
        at="2026-11-30T22:15:07Z", endpoint="GET /", status=200, milliseconds=1
    )
    client = as_user(staff["boss"])
    page = "/admin/embeddings/loggedrequest/"
    assert "2026-11-30 22:15:07" in client.get(page).content.decode()
    client.cookies["time_zone"] = "Asia/Tokyo"
    shown = client.get(page).content.decode()
    assert "2026-12-01 07:15:07" in shown
    assert "Times are in Asia/Tokyo" in client.get("/admin/").content.decode()


@pytest.mark.parametrize(
    "name", ["Nowhere/City", "../../etc/passwd", "/etc/passwd", "a\0b", "x" * 5000]
)
def test_zone_that_there_is_not_is_utc(staff, name):
    client = as_user(staff["boss"])
    client.cookies["time_zone"] = name
    answer = client.get("/admin/")
    assert answer.status_code == 200
    assert "Times are in UTC" in answer.content.decode()


def test_pages_are_compressed(staff):
    answer = as_user(staff["boss"]).get("/admin/", headers={"Accept-Encoding": "gzip"})
    assert answer["Content-Encoding"] == "gzip"
