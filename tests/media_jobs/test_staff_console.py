"""Which admin may do what in the console: Django's permissions, and nobody beyond his own rights."""

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.urls import reverse

from embeddings.models import ApiKey, AuditEntry
from media_jobs.models import Job, MediaItem
from providers.models import Breaker
from tests.embeddings.staff import give
from tests.media_jobs.console import act, page

PASSWORD = "another horse battery"
NO_LIMITS = {f"limits-{n}_FORMS": v for n, v in (("TOTAL", 0), ("INITIAL", 0))}
KEY_LIMITS = dict.fromkeys(
    ("requests_per_minute", "burst", "tokens_per_minute", "monthly_tokens"), ""
)


@pytest.mark.parametrize(
    ("who", "status"),
    [("boss", "cancelled"), ("full", "cancelled"), ("viewer", "queued")],
)
def test_jobs_are_cancelled_by_who_may_change_them(stored, console, who, status):
    job = Job.objects.get(status="queued")
    assert console(who).get(page(Job)).status_code == 200
    act(console(who), Job, "cancel", job)
    job.refresh_from_db()
    assert job.status == status


def test_who_may_only_look_changes_nothing(stored, console):
    viewer = console("viewer")
    Breaker.objects.create(provider="openai", state="open", failure_count=5)
    act(viewer, Breaker, "reset_breakers", Breaker.objects.get())
    act(viewer, ApiKey, "revoke_keys", ApiKey.objects.get())
    act(viewer, MediaItem, "embed", *MediaItem.objects.all(), embed="x")
    act(viewer, MediaItem, "delete_selected", *MediaItem.objects.all(), post="yes")
    act(viewer, User, "delete_selected", stored, post="yes")
    assert viewer.get(page(User, "change", stored.pk)).status_code == 200
    for address in (
        page(User, "change", stored.pk),
        page(User, "delete", stored.pk),
        page(MediaItem, "delete", MediaItem.objects.earliest("pk").pk),
        page(ApiKey, "add"),
        reverse("admin:auth_user_password_change", args=[stored.pk]),
    ):
        assert viewer.post(address, {"post": "yes"}).status_code == 403
    assert Breaker.objects.get().state == "open"
    assert ApiKey.objects.get().status == "active"
    assert MediaItem.objects.count() == 2
    assert Job.objects.count() == 2
    assert not AuditEntry.objects.exists()


def save_user(browser, user, **fields):
    form = {
        "username": user.username,
        "is_active": "on",
        "is_staff": "on",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
        **NO_LIMITS,
        **fields,
    }
    response = browser.post(page(User, "change", user.pk), form)
    user = User.objects.get(pk=user.pk)
    return response.status_code, user


def test_staff_make_nobody_a_superuser_and_give_only_what_they_have(people, console):
    keyman, plain = people["keyman"], people["plain"]
    rights = ("change_user", "view_user", "add_apikey")
    permission = Permission.objects.get(codename="change_breaker")
    everything = people["full"].groups.get()
    for target in (keyman, plain):
        give(keyman, *rights)
        status, saved = save_user(console("keyman"), target, is_superuser="on")
        assert (status, saved.is_superuser) == (302, False)
        for field, value in (
            ("user_permissions", permission.pk),
            ("groups", everything.pk),
        ):
            give(keyman, *rights)  # a form without them takes them away
            status, saved = save_user(console("keyman"), target, **{field: value})
            assert status == 200  # the form again, with the error
            assert not saved.has_perm("providers.change_breaker")
    mine = Permission.objects.get(codename="add_apikey")
    give(keyman, *rights)
    status, saved = save_user(console("keyman"), plain, user_permissions=mine.pk)
    assert status == 302
    assert saved.has_perm("embeddings.add_apikey")


def test_staff_with_all_permissions_still_make_no_superuser(people, console):
    for target in (people["full"], people["plain"]):
        _, saved = save_user(console("full"), target, is_superuser="on")
        assert not saved.is_superuser
    _, saved = save_user(console("boss"), people["plain"], is_superuser="on")
    assert saved.is_superuser


@pytest.mark.parametrize("target", ["boss", "viewer"])
def test_user_with_more_rights_is_shown_and_not_changed(people, console, target):
    give(people["keyman"], "change_user", "delete_user", "view_user")
    browser, user = console("keyman"), people[target]
    assert browser.get(page(User, "change", user.pk)).status_code == 200
    status, saved = save_user(browser, user, email="mine@example.org", is_active="")
    assert (status, saved.email, saved.is_active) == (403, "", True)
    form = {"usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    address = reverse("admin:auth_user_password_change", args=[user.pk])
    assert browser.post(address, form).status_code == 403
    delete = page(User, "delete", user.pk)
    assert browser.post(delete, {"post": "yes"}).status_code == 403
    act(browser, User, "delete_selected", user, people["plain"], post="yes")
    assert User.objects.filter(pk=user.pk).exists()
    assert User.objects.filter(username="plain").exists()
    assert not User.objects.get(pk=user.pk).check_password(PASSWORD)


def test_group_gives_nothing_that_its_editor_lacks(people, console):
    give(people["keyman"], "change_group", "view_group", "add_group")
    own = Group.objects.create(name="own")
    people["keyman"].groups.add(own)
    for codename, status in (("change_breaker", 200), ("add_apikey", 302)):
        permission = Permission.objects.get(codename=codename)
        form = {"name": "own", "permissions": permission.pk}
        response = console("keyman").post(page(Group, "change", own.pk), form)
        assert response.status_code == status
    assert [p.codename for p in own.permissions.all()] == ["add_apikey"]
    everything = people["full"].groups.get()
    response = console("keyman").post(
        page(Group, "change", everything.pk), {"name": "nothing"}
    )
    assert response.status_code == 403


@pytest.mark.parametrize("owner", ["boss", "full"])
def test_key_is_not_made_for_who_has_more_rights(people, console, owner):
    form = {"user": people[owner].pk, **KEY_LIMITS}
    response = console("keyman").post(page(ApiKey, "add"), form)
    assert "permissions that you lack" in response.content.decode()
    assert not ApiKey.objects.exists()
    form["user"] = people["plain"].pk
    response = console("keyman").post(page(ApiKey, "add"), form)
    assert ApiKey.objects.get().prefix in response.content.decode()


def test_own_user_is_suggested_for_a_key(people, console):
    form = console("keyman").get(page(ApiKey, "add")).context["adminform"].form
    assert form["user"].value() == str(people["keyman"].pk)


def test_keys_of_who_has_more_rights_are_not_touched(people, console, key_of, ada):
    key_of(people["boss"])
    key_of(ada)
    above, other = ApiKey.objects.order_by("pk")
    browser = console("full")
    answer = act(browser, ApiKey, "revoke_keys", above, other).content.decode()
    assert "Nothing was revoked: boss" in answer
    for name in ("change", "delete"):
        response = browser.post(page(ApiKey, name, above.pk), {"post": "yes"})
        assert response.status_code == 403
    act(browser, ApiKey, "delete_selected", above, post="yes")
    assert {key.status for key in ApiKey.objects.all()} == {"active"}
    act(browser, ApiKey, "revoke_keys", other)
    other.refresh_from_db()
    assert other.status == "revoked"
