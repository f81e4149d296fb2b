"""Jobs over HTTP; they are run here by calling what a worker calls."""

import pytest

from media_jobs.models import Job, MediaItem
from media_jobs.tasks import work
from media_jobs.vector_store.store import vector_store
from tests.fakes import MINILM
from tests.media_jobs.conftest import MEDIA

TEXT = "One two three four five six. " * 40


@pytest.fixture
def status_of(client):
    """Return a function that shows what vectors a document has."""
    return lambda media_id: client.get(f"{MEDIA}/{media_id}/embeddings/status").json()


def test_job_runs_from_queued_to_completed(create, start, job_of, status_of):
    media_id = create(TEXT)["media_id"]
    response = start(media_id, chunk_size=100, chunk_overlap=20)
    assert response.status_code == 202
    body = response.json()
    assert body["status"] == "accepted"
    assert body["media_id"] == media_id
    assert body["job_id"].startswith("mej_")
    queued = job_of(body["job_id"])
    assert (queued["status"], queued["progress"]) == ("queued", 0)
    assert status_of(media_id)["current_job"]["job_id"] == body["job_id"]

    work()

    job = job_of(body["job_id"])
    assert job["status"] == "completed"
    assert job["progress"] == 1
    assert job["chunks_processed"] == job["chunks_total"] > 10
    assert (job["embedding_provider"], job["embedding_model"]) == ("onnx", MINILM)
    assert (job["chunk_size"], job["chunk_overlap"]) == (100, 20)
    assert job["error"] is None
    status = status_of(media_id)
    assert status["has_embeddings"] is True
    assert status["embedding_count"] == job["chunks_total"]
    assert (status["embedding_model"], status["dimensions"]) == (MINILM, 8)
    assert status["last_generated"] == job["finished_at"]
    assert status["current_job"] is None
    assert vector_store().stats([media_id]).chunks == job["chunks_total"]


def test_same_job_is_not_made_twice(create, start):
    media_id = create(TEXT)["media_id"]
    first = start(media_id).json()["job_id"]
    again = start(media_id)
    assert (again.status_code, again.json()["job_id"]) == (200, first)
    assert again.json()["status"] == "queued"
    work()
    done = start(media_id)
    assert (done.status_code, done.json()["status"]) == (200, "completed")
    assert done.json()["job_id"] == first


@pytest.mark.parametrize(
    "change",
    [
        {"chunk_size": 300},
        {"chunk_overlap": 0},
        {"embedding_model": f"huggingface:{MINILM}"},
        {"dimensions": 4},
        {"force_regenerate": True},
    ],
)
def test_other_job_is_made(create, start, change):
    media_id = create(TEXT)["media_id"]
    first = start(media_id).json()["job_id"]
    work()
    other = start(media_id, **change)
    assert other.status_code == 202
    assert other.json()["job_id"] != first


def test_changed_text_is_embedded_again(create, start, client, status_of):
    media_id = create(TEXT)["media_id"]
    start(media_id)
    work()
    client.patch(f"{MEDIA}/{media_id}", {"content": "Other."}, format="json")
    assert status_of(media_id)["embeddings_stale"] is True
    assert start(media_id).status_code == 202
    work()
    status = status_of(media_id)
    assert (status["embeddings_stale"], status["embedding_count"]) == (False, 1)


def test_forced_job_takes_the_place_of_one_that_waits(create, start, job_of):
    media_id = create()["media_id"]
    first = start(media_id).json()["job_id"]
    second = start(media_id, force_regenerate=True).json()["job_id"]
    assert job_of(first)["status"] == "cancelled"
    assert job_of(second)["status"] == "queued"


def test_without_a_model_the_local_one_is_used(create, client, job_of):
    media_id = create()["media_id"]
    body = client.post(f"{MEDIA}/{media_id}/embeddings").json()
    job = job_of(body["job_id"])
    assert job["embedding_provider"] == "huggingface"
    assert (job["chunk_size"], job["chunk_overlap"]) == (1000, 200)


def test_model_that_is_not_prepared_is_409_with_the_remedy(create, start, fakes):
    for name in ("onnx", "huggingface"):
        fakes[name].problem = "The weights are not here: run download_model."
    response = start(create()["media_id"])
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "model_not_ready"
    assert "download_model" in response.json()["detail"]


def test_named_model_that_is_not_set_up_is_409_with_the_remedy(create, start):
    response = start(
        create()["media_id"], embedding_model="openai:text-embedding-3-small"
    )
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "model_not_ready"
    assert "OPENAI_API_KEY" in response.json()["detail"]
    assert "Retry-After" not in response.headers


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"chunk_size": 49}, "chunk_size"),
        ({"chunk_size": 20_001}, "chunk_size"),
        ({"chunk_size": "100"}, "chunk_size"),
        ({"chunk_size": 100, "chunk_overlap": 100}, "chunk_overlap"),
        ({"chunk_overlap": -1}, "chunk_overlap"),
        ({"dimensions": 0}, "dimensions"),
        ({"force_regenerate": 1}, "force_regenerate"),
        ({"priority": 101}, "priority"),
        ({"webhook_url": "ftp://example.org"}, "webhook_url"),
        ({"webhook_url": "http://a:b@example.org"}, "webhook_url"),
        ({"chunks": 7}, "chunks"),
    ],
)
def test_nonsense_is_400_and_names_the_field(create, start, body, param):
    response = start(create()["media_id"], **body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"embedding_provider": "nobody"}, 400),
        ({"embedding_model": "onnx:unknown"}, 404),
        ({"embedding_model": "onnx:x", "embedding_provider": "huggingface"}, 400),
    ],
)
def test_unknown_model_or_provider(create, start, body, status):
    assert start(create()["media_id"], **body).status_code == status


def test_unknown_document_is_404(start, fakes):
    assert start(999).status_code == 404


def test_jobs_are_listed_newest_first_with_filters(create, start, client):
    ids = [create(str(number))["media_id"] for number in range(3)]
    jobs = [start(media_id).json()["job_id"] for media_id in ids]
    client.post(f"{MEDIA}/embeddings/jobs/{jobs[0]}/cancel")

    def listed(**query):
        return client.get(f"{MEDIA}/embeddings/jobs", query).json()

    body = listed(status="queued", limit=1)
    assert [row["job_id"] for row in body["data"]] == [jobs[2]]
    assert body["pagination"] == {"limit": 1, "offset": 0, "count": 1, "total": 2}
    assert [row["job_id"] for row in listed(media_id=ids[0])["data"]] == [jobs[0]]
    assert [row["job_id"] for row in listed()["data"]] == jobs[::-1]


@pytest.mark.parametrize(
    "query", [{"status": "done"}, {"limit": 201}, {"media_id": "x"}]
)
def test_nonsense_filter_is_400(client, db, query):
    response = client.get(f"{MEDIA}/embeddings/jobs", query)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == next(iter(query))


def test_cancelled_job_never_runs(create, start, client, job_of, fakes):
    job_id = start(create()["media_id"]).json()["job_id"]
    answer = client.post(f"{MEDIA}/embeddings/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    again = client.post(f"{MEDIA}/embeddings/jobs/{job_id}/cancel")
    assert again.status_code == 200
    work()
    assert fakes["onnx"].calls == []
    assert job_of(job_id)["finished_at"]


def test_finished_job_cannot_be_cancelled(create, start, client):
    job_id = start(create()["media_id"]).json()["job_id"]
    work()
    answer = client.post(f"{MEDIA}/embeddings/jobs/{job_id}/cancel")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "conflict"


def test_unknown_job_is_404(client, db):
    assert client.get(f"{MEDIA}/embeddings/jobs/mej_x").status_code == 404
    assert client.post(f"{MEDIA}/embeddings/jobs/mej_x/cancel").status_code == 404


def test_deleted_vectors_are_gone_and_can_be_made_again(
    create, start, client, status_of
):
    media_id = create()["media_id"]
    start(media_id)
    work()
    answer = client.delete(f"{MEDIA}/{media_id}/embeddings").json()
    assert answer["deleted_count"] == 1
    assert status_of(media_id)["has_embeddings"] is False
    assert vector_store().stats([media_id]).chunks == 0
    assert start(media_id).status_code == 202


def test_deleted_document_takes_vectors_and_jobs_along(create, start, client, job_of):
    media_id = create()["media_id"]
    start(media_id)
    work()
    waiting = start(media_id, chunk_size=77).json()["job_id"]
    client.delete(f"{MEDIA}/{media_id}")
    assert vector_store().stats([media_id]).chunks == 0
    assert job_of(waiting)["status"] == "cancelled"
    work()
    assert not MediaItem.objects.exists()


def test_batch_starts_a_job_for_each(create, client):
    ids = [create(str(number))["media_id"] for number in range(3)]
    body = {"media_ids": [*ids, ids[0]], "embedding_model": f"onnx:{MINILM}"}
    answer = client.post(f"{MEDIA}/embeddings/batch", body, format="json")
    assert answer.status_code == 202
    assert [row["media_id"] for row in answer.json()["jobs"]] == ids
    again = client.post(f"{MEDIA}/embeddings/batch", body, format="json")
    assert (again.status_code, again.json()["count"]) == (200, 3)


def test_batch_with_one_unknown_document_starts_nothing(create, client):
    body = {"media_ids": [create()["media_id"], 999]}
    answer = client.post(f"{MEDIA}/embeddings/batch", body, format="json")
    assert answer.status_code == 404
    assert "999" in answer.json()["detail"]
    assert not Job.objects.exists()


@pytest.mark.parametrize("ids", [[], [0], ["1"], "1", list(range(1, 1002))])
def test_batch_of_nonsense_is_400(client, fakes, ids):
    body = {"media_ids": ids}
    answer = client.post(f"{MEDIA}/embeddings/batch", body, format="json")
    assert answer.status_code == 400


def test_worker_is_called_once_the_job_is_stored(
    create, start, django_capture_on_commit_callbacks
):
    from django_q.models import OrmQ

    media_id = create()["media_id"]
    with django_capture_on_commit_callbacks(execute=True):
        start(media_id)
    assert OrmQ.objects.count() == 1


def test_jobs_of_others_are_404(create, start, client_of, make_user, job_of):
    ada, eve = client_of(make_user("ada")), client_of(make_user("eve"))
    media_id = create(by=ada)["media_id"]
    job_id = start(media_id, by=ada).json()["job_id"]
    assert job_of(job_id, by=ada)["status"] == "queued"
    for answer in (
        start(media_id, by=eve),
        eve.get(f"{MEDIA}/{media_id}/embeddings/status"),
        eve.delete(f"{MEDIA}/{media_id}/embeddings"),
        eve.get(f"{MEDIA}/embeddings/jobs/{job_id}"),
        eve.post(f"{MEDIA}/embeddings/jobs/{job_id}/cancel"),
        eve.post(f"{MEDIA}/embeddings/batch", {"media_ids": [media_id]}, format="json"),
    ):
        assert answer.status_code == 404
    assert eve.get(f"{MEDIA}/embeddings/jobs").json()["pagination"]["total"] == 0
