"""What goes with a user, over the console, the service and Django's own delete."""

import pytest
from django.contrib.auth.models import User

from embeddings.models import ApiKey, AuditEntry, UsageHour
from media_jobs.models import Job, MediaItem, StoredChunk
from media_jobs.services import accounts
from media_jobs.services.accounts import delete_user
from media_jobs.tasks import work
from tests.embeddings.staff import give
from tests.media_jobs.conftest import MEDIA
from tests.media_jobs.console import act, page


def nothing_of(user_id):
    own = {"owner_id": user_id}
    return not (
        User.objects.filter(pk=user_id).exists()
        or MediaItem.objects.filter(**own).exists()
        or Job.objects.filter(**own).exists()
        or StoredChunk.objects.exists()
        or ApiKey.objects.filter(user_id=user_id).exists()
    )


@pytest.fixture
def used(stored):
    """An hour of ada's use."""
    return UsageHour.objects.create(
        caller=f"user:{stored.pk}",
        hour="2026-01-01T00:00:00Z",
        username="ada",
        user_id=stored.pk,
        tokens=7,
    )


def test_what_goes_with_a_user_is_named_and_goes(stored, console, used):
    browser, chunks = console("boss"), StoredChunk.objects.count()
    assert chunks > 1
    shown = browser.get(page(User, "delete", stored.pk)).content.decode()
    shown = " ".join(shown.split())
    for part in (
        "Media items: 2",
        f"Stored chunks, with their vectors: {chunks}",
        "Jobs (those that wait or run are cancelled): 2",
        "API keys: 1",
    ):
        assert part.lower() in shown.lower()
    assert MediaItem.objects.count() == 2
    number = stored.pk
    response = browser.post(page(User, "delete", number), {"post": "yes"}, follow=True)
    assert "deleted successfully" in response.content.decode()
    assert nothing_of(number)
    entry = AuditEntry.objects.get()
    assert entry.before is not None
    assert (entry.action, entry.before["documents"]) == ("delete", 2)
    assert UsageHour.objects.get(pk=used.pk).tokens == 7


def test_users_are_deleted_together(stored, people, console):
    number = stored.pk
    both = (stored, people["plain"])
    act(console("full"), User, "delete_selected", *both, post="yes")
    assert nothing_of(number)
    assert not User.objects.filter(username="plain").exists()


def test_deleting_a_user_takes_the_permission_for_its_documents(
    stored, people, console
):
    give(people["keyman"], "delete_user", "view_user", "delete_apikey")
    browser, delete = console("keyman"), page(User, "delete", stored.pk)
    assert "media items" in browser.get(delete).content.decode()
    assert browser.post(delete, {"post": "yes"}).status_code == 403
    give(people["keyman"], "delete_mediaitem")
    assert browser.post(delete, {"post": "yes"}).status_code == 302
    assert not User.objects.filter(username="ada").exists()


def test_user_s_own_delete_takes_everything_along(stored):
    number = stored.pk
    stored.delete()
    assert nothing_of(number)


def test_running_job_of_a_deleted_user_stores_nothing(stored, fakes, monkeypatch):
    embed, number = fakes["onnx"].embed, stored.pk

    def deleting(*args, **options):
        if User.objects.filter(pk=number).exists():
            assert Job.objects.filter(status="processing").count() == 1
            delete_user(User.objects.get(pk=number))
        return embed(*args, **options)

    monkeypatch.setattr(fakes["onnx"], "embed", deleting)
    work()
    assert nothing_of(number)


def test_large_account_is_deleted_in_steps_and_goes_on_when_asked_again(
    stored, console, monkeypatch
):
    monkeypatch.setattr("media_jobs.console.people.DELETING_SECONDS", 0.0)
    browser, number = console("boss"), stored.pk
    delete = page(User, "delete", number)
    response = browser.post(delete, {"post": "yes"}, follow=True)
    assert "ada is switched off, and 2 documents are left" in response.content.decode()
    assert not User.objects.get(pk=number).is_active
    assert {job.status for job in Job.objects.all()} == {"completed", "cancelled"}
    answer = act(browser, User, "delete_selected", stored, post="yes")
    assert "Successfully deleted" not in answer.content.decode()
    monkeypatch.setattr("media_jobs.console.people.DELETING_SECONDS", 20.0)
    browser.post(delete, {"post": "yes"})
    assert nothing_of(number)


@pytest.mark.parametrize("chunks", [1, 5000])
def test_batches_end_with_their_chunks_or_their_rows(stored, monkeypatch, chunks):
    monkeypatch.setattr(accounts, "BATCH_CHUNKS", chunks)
    batch = accounts._next_documents(stored)
    assert len(batch) == (1 if chunks == 1 else 2)


def test_token_of_a_deleted_user_lets_nobody_in(stored, client_of):
    client = client_of(stored)
    delete_user(stored)
    response = client.post(MEDIA, {"title": "x", "content": "y"}, format="json")
    assert response.status_code == 401
