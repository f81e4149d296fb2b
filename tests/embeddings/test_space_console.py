"""The console's page of remote spaces."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from embeddings.models import AuditEntry
from providers.canary import Canary
from providers.models import RemoteSpace
from tests.embeddings.multi_user import access, make_user  # noqa: F401
from tests.embeddings.services.test_space_watch import Clock
from tests.fakes import FakeOpenAI

LIST = "admin:providers_remotespace_changelist"
SECRET = "hunter2-hunter2"


@pytest.fixture
def drifted(db, monkeypatch):
    """A space that has drifted."""
    upstream, clock = FakeOpenAI(), Clock()
    address = f"https://user:{SECRET}@one.example/{SECRET}"
    monkeypatch.setattr(upstream, "address", lambda: address)
    canary = Canary(started_at=clock.now)
    canary.clock = clock
    canary.check(upstream, upstream.specs[0])
    upstream.variant = "another model: "
    clock.forward(86400)
    canary.check(upstream, upstream.specs[0])
    return RemoteSpace.objects.get()


def console_of(user):
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def console(make_user):  # noqa: F811
    return console_of(make_user("operator", is_staff=True, is_superuser=True))


def accept(console, row):
    fields = {"action": "accept_revisions", "_selected_action": [row.pk]}
    return console.post(reverse(LIST), fields, follow=True)


def test_spaces_are_shown_with_their_host_alone(console, drifted):
    page = reverse("admin:providers_remotespace_change", args=[drifted.pk])
    for shown in (console.get(reverse(LIST)), console.get(page)):
        text = shown.content.decode()
        assert "one.example" in text
        assert "drifted" in text
        assert SECRET not in text
        assert drifted.address not in text


def test_accepting_makes_a_revision_and_is_audited(console, drifted):
    page = accept(console, drifted).content.decode()
    assert "Accepted 1 new revision(s)." in page
    drifted.refresh_from_db()
    assert (drifted.state, drifted.revision) == ("ok", 2)
    assert drifted.accepted_by == "operator"
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action) == ("operator", "accept")
    assert entry.target == "remote space openai:text-embedding-3-small at one.example"
    assert entry.before is not None
    assert entry.after is not None
    assert (entry.before["state"], entry.before["revision"]) == ("drifted", 1)
    assert (entry.after["state"], entry.after["revision"]) == ("ok", 2)


def test_what_has_not_drifted_cannot_be_accepted(console, drifted):
    RemoteSpace.objects.update(state="ok")
    assert "Accepted 0 new" in accept(console, drifted).content.decode()
    drifted.refresh_from_db()
    assert drifted.revision == 1
    assert not AuditEntry.objects.exists()


def test_accepting_needs_the_right_to_change(make_user, drifted):  # noqa: F811
    watcher = make_user("watcher", is_staff=True)
    watcher.user_permissions.add(Permission.objects.get(codename="view_remotespace"))
    accept(console_of(watcher), drifted)
    drifted.refresh_from_db()
    assert drifted.state == "drifted"


def test_spaces_are_neither_added_nor_deleted_nor_edited(console, drifted):
    assert console.get(reverse("admin:providers_remotespace_add")).status_code == 403
    page = reverse("admin:providers_remotespace_delete", args=[drifted.pk])
    assert console.post(page, {"post": "yes"}).status_code == 403
    fields = {"action": "delete_selected", "_selected_action": [drifted.pk]}
    console.post(reverse(LIST), {**fields, "post": "yes"})
    page = reverse("admin:providers_remotespace_change", args=[drifted.pk])
    console.post(page, {"state": "ok", "revision": "9"})
    drifted.refresh_from_db()
    assert (drifted.state, drifted.revision) == ("drifted", 1)
