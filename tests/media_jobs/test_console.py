"""The console's pages for documents, chunks and jobs."""

import pytest

from embeddings.models import AuditEntry
from media_jobs.models import Job, MediaItem, StoredChunk
from media_jobs.tasks import work

ITEMS = "/admin/media_jobs/mediaitem/"
JOBS = "/admin/media_jobs/job/"
CHUNKS = "/admin/media_jobs/storedchunk/"


@pytest.fixture(autouse=True)
def quick_passwords(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def item(create, start):
    media_id = create("The cat sat. " * 300, title="On cats")["media_id"]
    start(media_id)
    work()
    return MediaItem.objects.get(pk=media_id)


@pytest.mark.parametrize("url", [ITEMS, JOBS, CHUNKS])
def test_lists_are_shown(admin_client, item, url):
    response = admin_client.get(url)
    assert response.status_code == 200
    assert item.title in response.content.decode() or url != ITEMS


def test_document_is_shown_with_the_begin_of_its_text(admin_client, item):
    page = admin_client.get(f"{ITEMS}{item.pk}/change/").content.decode()
    assert "The cat sat." in page
    assert "characters more" in page


def test_title_can_be_changed_and_the_text_cannot(admin_client, item):
    form = {"title": "Dogs", "metadata": "{}", "content": "Gone."}
    admin_client.post(f"{ITEMS}{item.pk}/change/", form)
    item.refresh_from_db()
    assert item.title == "Dogs"
    assert item.content.startswith("The cat")
    assert AuditEntry.objects.get().action == "change"


def test_deleted_document_takes_its_vectors_along(admin_client, item):
    admin_client.post(f"{ITEMS}{item.pk}/delete/", {"post": "yes"})
    assert not MediaItem.objects.exists()
    assert not StoredChunk.objects.exists()
    assert AuditEntry.objects.get().action == "delete"


def test_documents_are_embedded_by_action(admin_client, create):
    ids = [create(str(number))["media_id"] for number in range(2)]
    form = {"action": "embed", "_selected_action": ids}
    admin_client.post(ITEMS, form)
    assert Job.objects.count() == 2


def test_jobs_are_cancelled_by_action(admin_client, create, start):
    start(create()["media_id"])
    job = Job.objects.get()
    admin_client.post(JOBS, {"action": "cancel", "_selected_action": [job.pk]})
    assert Job.objects.get().status == "cancelled"
    assert AuditEntry.objects.get().action == "cancel"


@pytest.mark.parametrize("url", [JOBS, CHUNKS])
def test_jobs_and_chunks_are_read_only(admin_client, item, url):
    model = Job if url == JOBS else StoredChunk
    row = model.objects.first()
    assert admin_client.get(f"{url}{row.pk}/change/").status_code == 200
    assert admin_client.get(f"{url}add/").status_code == 403
    assert (
        admin_client.post(f"{url}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    )
