"""A user's page shows what of the quotas is used: the same figures as the API."""

import re

import pytest
from django.contrib.auth.models import User

from embeddings.models import UserLimits
from media_jobs.models import Job, MediaItem
from tests.embeddings.staff import give
from tests.media_jobs.console import page

METER = re.compile(
    r"<strong[^>]*>([^<]+)</strong>\s*(<progress.*?</progress>)?\s*<div>([^<]*)"
)


@pytest.fixture(autouse=True)
def no_quotas(media_conf):
    media_conf(max_documents=0, max_stored_bytes=0, max_queued_jobs=0)


def meters(browser, user):
    """Return by title what the page says, and the percent of its bar, if it has one."""
    shown = browser.get(page(User, "change", user.pk)).content.decode()
    return {
        title: (words.replace("\xa0", " "), bar and re.findall(r'value="(\d+)"', bar))
        for title, bar, words in METER.findall(shown)
    }


def test_user_without_quotas_has_no_limit(stored, console):
    shown = meters(console("viewer"), stored)
    assert shown["Documents"] == ("2 stored, no limit", "")
    assert shown["Stored text"] == ("1.9 KB stored, no limit", "")
    assert shown["Queued jobs"] == ("1 wait or run, no limit", "")


def test_servers_quotas_are_shown_and_the_users_own_go_before_them(
    stored, console, media_conf, client_of
):
    media_conf(max_documents=4, max_stored_bytes=19_200, max_queued_jobs=1)
    shown = meters(console("viewer"), stored)
    assert shown["Documents"] == ("2 stored, of at most 4", ["50"])
    assert shown["Stored text"] == ("1.9 KB stored, of at most 18.8 KB", ["10"])
    assert shown["Queued jobs"] == ("1 wait or run, of at most 1", ["100"])
    UserLimits.objects.create(user=stored, max_documents=8)
    shown = meters(console("viewer"), stored)
    assert shown["Documents"] == ("2 stored, of at most 8", ["25"])
    said = client_of(stored).get("/api/v1/media/quota").json()
    assert said["documents"] == {"used": 2, "limit": 8}
    assert said["queued_jobs"] == {"used": 1, "limit": 1}


def test_staff_have_no_quota_but_their_own(people, console, media_conf):
    media_conf(max_documents=4)
    assert meters(console("boss"), people["viewer"])["Documents"] == (
        "0 stored, no limit",
        "",
    )
    UserLimits.objects.create(user=people["viewer"], max_documents=0)
    assert meters(console("boss"), people["viewer"])["Documents"] == (
        "0 stored, of at most 0",
        ["100"],
    )


@pytest.mark.parametrize("model", [MediaItem, Job])
def test_what_counts_is_one_click_away_for_who_may_see_it(
    stored, console, people, model
):
    address = f"{page(model)}?owner={stored.pk}"
    viewer, keyman = console("viewer"), console("keyman")
    give(people["keyman"], "view_user")
    assert address in viewer.get(page(User, "change", stored.pk)).content.decode()
    rows = viewer.get(address).context_data["cl"].result_list
    assert {row.owner for row in rows} == {stored}
    assert address not in keyman.get(page(User, "change", stored.pk)).content.decode()


def test_quota_that_is_set_in_the_console_is_in_force(stored, console, client_of):
    form = {
        "username": stored.username,
        "is_active": "on",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
        "limits-TOTAL_FORMS": 1,
        "limits-INITIAL_FORMS": 0,
        "limits-0-user": stored.pk,
        "limits-0-max_documents": 2,
    }
    answer = console("boss").post(page(User, "change", stored.pk), form)
    assert answer.status_code == 302
    assert meters(console("boss"), stored)["Documents"] == (
        "2 stored, of at most 2",
        ["100"],
    )
    body = {"title": "One more", "content": "A cat."}
    answer = client_of(stored).post("/api/v1/media", body, format="json")
    assert answer.status_code == 403
