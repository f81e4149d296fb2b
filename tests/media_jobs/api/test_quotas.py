"""What one user may store and have queued."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from embeddings.models import UserLimits
from media_jobs.models import Job, MediaItem
from tests.media_jobs.conftest import MEDIA

TEXT = "The cat sat on the mät."
BYTES = len(TEXT.encode())


@pytest.fixture
def quotas(media_conf):
    """Return a function that sets the server's quotas; none is set at first."""

    def change(*, documents=0, stored_bytes=0, queued_jobs=0):
        media_conf(
            max_documents=documents,
            max_stored_bytes=stored_bytes,
            max_queued_jobs=queued_jobs,
        )

    change()
    return change


@pytest.fixture
def by(client_of, ada):
    return client_of(ada)


def post(by, content=TEXT):
    return by.post(MEDIA, {"title": "t", "content": content}, format="json")


def refused(response, *says, status=403):
    assert response.status_code == status, response.content
    body = response.json()
    assert body["error"]["code"] == "quota_exceeded"
    for words in says:
        assert words in body["detail"]


def test_document_too_many_is_refused_with_what_is_used_and_what_to_do(
    by, create, quotas
):
    quotas(documents=2)
    create(by=by)
    create(by=by)
    refused(post(by), "quota of 2 documents", "(2 stored)", "delete some")
    assert MediaItem.objects.count() == 2


def test_place_of_a_deleted_document_is_free_again(by, create, quotas):
    quotas(documents=1)
    media_id = create(by=by)["media_id"]
    by.delete(f"{MEDIA}/{media_id}")
    assert post(by).status_code == 201


def test_text_that_fits_to_the_byte_is_stored_and_one_byte_more_is_refused(
    by, create, quotas
):
    quotas(stored_bytes=2 * BYTES)
    create(TEXT, by=by)
    refused(post(by, TEXT + "."), f"{2 * BYTES} bytes", f"({BYTES} stored)")
    assert post(by).status_code == 201


def test_larger_text_of_a_document_is_refused_and_a_smaller_one_frees_bytes(
    by, create, quotas
):
    quotas(documents=1, stored_bytes=2 * BYTES)
    url = f"{MEDIA}/{create(TEXT, by=by)['media_id']}"
    refused(by.patch(url, {"content": TEXT * 3}, format="json"), "bytes")
    assert by.patch(url, {"content": TEXT * 2}, format="json").status_code == 200
    assert by.patch(url, {"title": "other"}, format="json").status_code == 200
    assert by.patch(url, {"content": "cat"}, format="json").status_code == 200
    assert by.get(f"{MEDIA}/quota").json()["stored_bytes"] == {
        "used": 3,
        "limit": 2 * BYTES,
    }


def test_file_is_refused_before_it_is_read(by, create, quotas, monkeypatch):
    quotas(documents=1)
    create(by=by)
    monkeypatch.setattr("media_jobs.services.ingestion.extracted", None)
    upload = SimpleUploadedFile("a.txt", b"text")
    refused(by.post(MEDIA, {"file": upload}, format="multipart"), "documents")


def test_file_counts_by_its_text(by, quotas):
    quotas(stored_bytes=BYTES)
    upload = SimpleUploadedFile("a.html", f"<p><b>{TEXT}</b></p>".encode())
    assert by.post(MEDIA, {"file": upload}, format="multipart").status_code == 201
    upload = SimpleUploadedFile("b.txt", b"more")
    refused(by.post(MEDIA, {"file": upload}, format="multipart"), "bytes")


def test_job_too_many_is_refused_for_a_while(by, create, start, quotas):
    quotas(queued_jobs=1)
    first, second = (create(str(number), by=by)["media_id"] for number in range(2))
    assert start(first, by=by).status_code == 202
    answer = start(second, by=by)
    refused(answer, "quota of 1 queued jobs", "(1 wait or run)", status=429)
    assert int(answer.headers["Retry-After"]) > 0
    assert Job.objects.count() == 1
    assert start(first, by=by).status_code == 200
    Job.objects.update(status="completed")
    assert start(second, by=by).status_code == 202


def test_forced_job_that_is_refused_leaves_the_one_before(by, create, start, quotas):
    media_id = create(by=by)["media_id"]
    start(media_id, by=by)
    start(create("other", by=by)["media_id"], by=by)
    quotas(queued_jobs=1)
    refused(start(media_id, by=by, force_regenerate=True), "queued jobs", status=429)
    assert set(Job.objects.values_list("status", flat=True)) == {"queued"}


def test_batch_counts_with_all_its_jobs_and_starts_all_or_none(by, create, quotas):
    quotas(queued_jobs=3)
    ids = [create(str(number), by=by)["media_id"] for number in range(4)]
    body = {"media_ids": ids, "embedding_model": "onnx:all-MiniLM-L6-v2"}
    answer = by.post(f"{MEDIA}/embeddings/batch", body, format="json")
    refused(answer, "no place for 4 more (0 wait or run)", status=429)
    assert Job.objects.count() == 0
    body["media_ids"] = ids[:3]
    answer = by.post(f"{MEDIA}/embeddings/batch", body, format="json")
    assert answer.status_code == 202


def test_quota_is_the_users_over_all_of_its_keys(by, create, quotas, ada, key_of):
    quotas(documents=1)
    create(by=by)
    with_key = APIClient(headers={"X-API-KEY": key_of(ada)})
    refused(post(with_key), "documents")


def test_quota_of_one_user_says_nothing_of_another(
    by, create, quotas, client_of, make_user
):
    quotas(documents=1)
    create(by=by)
    assert post(client_of(make_user("eve"))).status_code == 201


@pytest.mark.parametrize(("own", "status"), [(3, 201), (2, 403), (0, 403), (None, 403)])
def test_console_gives_one_user_another_quota(by, create, quotas, ada, own, status):
    quotas(documents=3)
    create(by=by)
    create("other", by=by)
    quotas(documents=2)
    UserLimits.objects.create(user=ada, max_documents=own)
    assert post(by, "third").status_code == status


def test_staff_have_no_quota_but_their_own(quotas, client_of, make_user):
    quotas(documents=1, stored_bytes=1)
    staff = make_user("head", is_staff=True)
    assert post(client_of(staff)).status_code == 201
    assert post(client_of(staff)).status_code == 201
    UserLimits.objects.create(user=staff, max_documents=2)
    refused(post(client_of(staff)), "documents")


def test_single_user_has_no_quota(create, start, quotas, client):
    quotas(documents=1, stored_bytes=1, queued_jobs=1)
    for number in range(2):
        assert start(create(str(number))["media_id"]).status_code == 202
    assert client.get(f"{MEDIA}/quota").json() == {
        "documents": {"used": 2, "limit": None},
        "stored_bytes": {"used": 2, "limit": None},
        "queued_jobs": {"used": 2, "limit": None},
    }


def test_use_is_shown_beside_the_limits(by, create, start, quotas):
    quotas(documents=5, stored_bytes=1000)
    start(create(TEXT, by=by)["media_id"], by=by)
    assert by.get(f"{MEDIA}/quota").json() == {
        "documents": {"used": 1, "limit": 5},
        "stored_bytes": {"used": BYTES, "limit": 1000},
        "queued_jobs": {"used": 1, "limit": None},
    }


@pytest.mark.parametrize(("priority", "status"), [(50, 202), (51, 403), (100, 403)])
def test_priority_above_fifty_is_for_staff(by, create, start, quotas, priority, status):
    media_id = create(by=by)["media_id"]
    alone = start(media_id, by=by, priority=priority)
    batch = by.post(
        f"{MEDIA}/embeddings/batch",
        {"media_ids": [media_id], "priority": priority},
        format="json",
    )
    assert alone.status_code == status
    assert batch.status_code in ((200, 202) if status == 202 else (403,))
    if status == 403:
        assert alone.json()["error"]["param"] == "priority"
        assert "priority above 50 is for staff" in alone.json()["detail"]


def test_staff_may_set_any_priority(client_of, make_user, create, start):
    by = client_of(make_user("head", is_staff=True))
    media_id = create(by=by)["media_id"]
    assert start(media_id, by=by, priority=100).status_code == 202
