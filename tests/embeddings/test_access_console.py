"""What the console says of who may call: keys, limits, and what of the budgets is used."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client

from embeddings.models import ApiKey, AuditEntry, UsageHour, UserLimits
from embeddings.services.callers import CallerLimits
from tests.embeddings.staff import give


@pytest.fixture
def console(make_user):
    client = Client()
    client.force_login(make_user("boss", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def key(ada, key_of):
    key_of(ada, name="ci", limits=CallerLimits(monthly_tokens=1000))
    UserLimits.objects.create(user=ada, monthly_cost_usd=Decimal(4), burst=7)
    row = ApiKey.objects.get()
    UsageHour.objects.create(
        caller=f"key:{row.pk}",
        user_id=ada.pk,
        key_id=row.pk,
        username="ada",
        hour=datetime.now(UTC),
        tokens=250,
        cost=1,
    )
    return row


def test_key_s_page_shows_what_of_its_budgets_is_used(console, key):
    page = console.get(f"/admin/embeddings/apikey/{key.pk}/change/").content.decode()
    assert 'max="100" value="25"' in page
    assert "250 used, of a budget of 1,000" in page
    assert "$1.00 used, of a budget of $4.00, by all keys of the user together" in page
    assert "7, its user&#x27;s" in page


def test_user_s_page_shows_its_keys_and_its_use(console, key, ada):
    page = console.get(f"/admin/auth/user/{ada.pk}/change/").content.decode()
    assert f"/admin/embeddings/apikey/{key.pk}/change/" in page
    assert "250 used, without a budget" in page
    assert "$1.00 used, of a budget of $4.00" in page


def test_keys_of_a_user_are_shown_to_who_may_see_keys_only(key, ada, make_user):
    viewer = make_user("viewer", is_staff=True)
    give(viewer, "view_user")
    client = Client()
    client.force_login(viewer)
    page = client.get(f"/admin/auth/user/{ada.pk}/change/").content.decode()
    assert key.prefix not in page


def test_audit_log_reads_as_sentences(console):
    AuditEntry.objects.create(
        source="api",
        actor="ada",
        action="change",
        target="provider openai",
        before={"base_url": "https://a.example"},
        after={"base_url": "https://b.example"},
    )
    listed = console.get("/admin/embeddings/auditentry/").content.decode()
    assert "ada changed provider openai" in listed
    entry = AuditEntry.objects.get()
    page = console.get(f"/admin/embeddings/auditentry/{entry.pk}/change/")
    content = page.content.decode()
    assert "<td>https://a.example</td><td>https://b.example</td>" in content
    assert "{&quot;" not in content


@pytest.mark.parametrize(
    ("accept", "address", "kind"),
    [
        ("text/html", "/admin/nothing/", "text/html"),
        ("*/*", "/admin/nothing/", "text/html"),
        ("text/html,*/*", "/nothing", "text/html"),
        ("*/*", "/nothing", "application/json"),
        ("text/html", "/api/v1/nothing", "application/json"),
    ],
)
def test_who_browses_is_answered_by_a_page(console, accept, address, kind):
    answer = console.get(address, headers={"Accept": accept})
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith(kind)


def test_page_that_is_not_allowed_says_what_is_lacking(make_user):
    client = Client()
    client.force_login(make_user("clerk", is_staff=True))
    answer = client.get("/admin/embeddings/apikey/")
    assert answer.status_code == 403
    assert "lacks a permission" in answer.content.decode()


def test_form_from_elsewhere_is_refused_with_words():
    client = Client(enforce_csrf_checks=True)
    answer = client.post("/admin/login/", {"username": "a", "password": "b"})
    assert answer.status_code == 403
    assert "The form was not accepted" in answer.content.decode()


@pytest.mark.django_db
def test_wrong_password_is_said_once():
    form = {"username": "ada", "password": "wrong"}
    page = Client().post("/admin/login/", form).content.decode()
    assert page.count("Please enter the correct username") == 1
    assert "Please correct" not in page


def test_cache_is_cleared_from_the_overview_and_audited(console, fakes):
    console.post("/admin/", {"action": "clear_cache"})
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.before) == ("clear", {"vectors": 0})


def test_deleting_a_group_says_who_loses_its_permissions(console, ada):
    group = Group.objects.create(name="operators")
    group.permissions.set(Permission.objects.all())
    ada.groups.add(group)
    page = console.get(f"/admin/auth/group/{group.pk}/delete/").content.decode()
    assert "Users who lose their permissions: 1" in page
    assert "Group_permissions object" not in page
    console.post(f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"})
    assert not Group.objects.exists()
    assert AuditEntry.objects.get().target == "group operators"


def test_who_lacks_a_groups_permissions_cannot_delete_it(make_user):
    clerk = make_user("clerk", is_staff=True)
    give(clerk, "view_group", "delete_group")
    group = Group.objects.create(name="operators")
    group.permissions.set(Permission.objects.all())
    browser = Client()
    browser.force_login(clerk)
    address = f"/admin/auth/group/{group.pk}/delete/"
    assert browser.get(address).status_code == 403
    assert browser.post(address, {"post": "yes"}).status_code == 403
    assert Group.objects.exists()
