"""Documents over HTTP."""

import hashlib
import tempfile
import threading
from dataclasses import replace

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import InterfaceError, OperationalError, connection
from rest_framework.test import APIClient

from embeddings.access.limiter.limiter import Limiter
from embeddings.access.limiter.sqlite_buckets import SqliteBuckets
from media_jobs.conf import conf
from media_jobs.extraction import slots
from media_jobs.extraction.file_formats import Extracted
from media_jobs.models import MediaItem
from media_jobs.services import ingestion
from providers.registry import registry
from tests.fakes import MINILM
from tests.media_jobs.conftest import MEDIA
from tests.media_jobs.extraction.files import encoded, pdf


@pytest.fixture
def upload(client, db):
    """Return a function that uploads a file."""

    def send(name, data, **fields):
        form = {"file": SimpleUploadedFile(name, data), **fields}
        return client.post(MEDIA, form, format="multipart")

    return send


def test_document_is_stored_with_its_checksum(create, client):
    body = create("Zwölf Boxkämpfer", metadata={"shelf": 3}, language="de")
    assert body["checksum"] == hashlib.sha256("Zwölf Boxkämpfer".encode()).hexdigest()
    assert body["characters"] == 16
    assert body["has_embeddings"] is False
    shown = client.get(f"{MEDIA}/{body['media_id']}/").json()
    assert shown == {**body, "content": "Zwölf Boxkämpfer"}


def test_text_can_be_left_out(create, client):
    item = create()
    shown = client.get(f"{MEDIA}/{item['media_id']}?content=false").json()
    assert shown == item


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "blank"),
        (" \n\t", "blank"),
        ("a\0b", "NUL"),
        (7, "must be a string"),
    ],
)
def test_content_that_is_no_text_is_400(client, db, content, says):
    response = client.post(MEDIA, {"title": "x", "content": content}, format="json")
    assert response.status_code == 400
    assert says in response.json()["detail"]
    assert response.json()["error"]["param"] == "content"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"title": None}, "title"),
        ({"title": "x" * 501}, "title"),
        ({"metadata": ["a"]}, "metadata"),
        ({"metadata": {"a": "x" * 70_000}}, "metadata"),
        ({"metadata": {"a": "\0"}}, "metadata"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_field_is_named(client, db, change, param):
    body = {"title": "x", "content": "y", **change}
    response = client.post(MEDIA, body, format="json")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "nothing", [{"metadata": ""}, {"metadata": "null"}, {"title": "", "language": ""}]
)
def test_field_of_a_form_that_holds_nothing_was_not_sent(upload, nothing):
    answer = upload("cats.txt", b"They sit.", **nothing)
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert (body["title"], body["metadata"], body["language"]) == ("cats", {}, "")


def test_form_without_a_file_is_refused(client, db):
    answer = client.post(MEDIA, {"file": "", "title": "x"}, format="multipart")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "file"


def test_byte_order_mark_before_metadata_is_skipped(upload):
    body = upload("a.txt", b"text", metadata='\ufeff{"a": 1}').json()
    assert body["metadata"] == {"a": 1}


def test_null_changes_nothing_of_a_document(create, client):
    item = create(language="de", metadata={"a": 1})
    url = f"{MEDIA}/{item['media_id']}"
    sent = {"title": "New", "language": None, "metadata": None, "content": None}
    changed = client.patch(url, sent, format="json").json()
    assert (changed["title"], changed["language"]) == ("New", "de")
    assert (changed["metadata"], changed["checksum"]) == ({"a": 1}, item["checksum"])
    assert client.patch(url, {"language": None}, format="json").status_code == 400


def test_list_is_paged_newest_first_without_texts(create, client):
    ids = [create(title=str(number))["media_id"] for number in range(3)]
    body = client.get(MEDIA, {"limit": 2, "offset": 1}).json()
    assert [row["media_id"] for row in body["data"]] == [ids[1], ids[0]]
    assert body["pagination"] == {"limit": 2, "offset": 1, "count": 2, "total": 3}
    assert "content" not in body["data"][0]


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 201}, {"limit": ""}, {"offset": -1}]
)
def test_page_out_of_range_is_400(client, db, query):
    response = client.get(MEDIA, query)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == next(iter(query))


def test_list_reads_no_text(create, client, django_assert_num_queries):
    create()
    with django_assert_num_queries(2) as queries:
        client.get(MEDIA)
    assert '"content"' not in queries[0]["sql"]


def test_change_of_the_title_keeps_the_text(create, client):
    item = create()
    response = client.patch(
        f"{MEDIA}/{item['media_id']}", {"title": "Dogs"}, format="json"
    )
    assert response.json()["title"] == "Dogs"
    assert response.json()["checksum"] == item["checksum"]


def test_other_text_makes_its_vectors_stale(create, client):
    item = create()
    MediaItem.objects.update(embedding_count=1, embedded_checksum=item["checksum"])
    url = f"{MEDIA}/{item['media_id']}"
    assert client.get(url).json()["embeddings_stale"] is False
    changed = client.patch(url, {"content": "Another text."}, format="json").json()
    assert changed["embeddings_stale"] is True
    assert changed["characters"] == 13


def test_empty_change_is_400(create, client):
    url = f"{MEDIA}/{create()['media_id']}"
    assert client.patch(url, {}, format="json").status_code == 400


def test_deleted_document_is_gone(create, client):
    url = f"{MEDIA}/{create()['media_id']}"
    assert client.delete(url).json()["status"] == "deleted"
    assert client.get(url).status_code == 404
    assert client.delete(url).status_code == 404


@pytest.mark.parametrize("media_id", ["0", "999", "9" * 30, "x"])
def test_unknown_document_is_404(client, db, media_id):
    response = client.get(f"{MEDIA}/{media_id}")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def test_file_is_stored_under_its_name(upload):
    body = upload("notes.md", b"\xef\xbb\xbf# Cats\n\nThey sit.").json()
    assert (body["title"], body["source_filename"]) == ("notes", "notes.md")
    assert MediaItem.objects.get().content == "# Cats\n\nThey sit."


def test_form_takes_title_and_metadata(upload):
    body = upload("a.txt", b"text", title="T", metadata='{"a": [1]}').json()
    assert (body["title"], body["metadata"]) == ("T", {"a": [1]})


@pytest.mark.parametrize("metadata", ["{", "[1]", "7"])
def test_form_metadata_that_is_no_object_is_400(upload, metadata):
    assert upload("a.txt", b"text", metadata=metadata).status_code == 400


@pytest.mark.parametrize(
    ("name", "data", "status", "says"),
    [
        ("a.exe", b"text", 415, "a.exe"),
        ("noending", b"text", 415, "noending"),
        ("a.txt", b"  \n ", 400, "blank"),
        ("a.txt", b"\x00\x01binary", 400, "binary"),
        ("a.txt", b"caf\xe9", 400, "UTF-8"),
    ],
)
def test_file_that_is_no_text_is_refused(upload, name, data, status, says):
    response = upload(name, data)
    assert response.status_code == status
    assert says in response.json()["detail"]
    assert MediaItem.objects.count() == 0


def test_empty_file_is_400(upload):
    response = upload("a.txt", b"")
    assert response.status_code == 400
    assert "empty" in response.json()["detail"]


def test_utf_16_with_its_mark_is_read(upload):
    upload("a.txt", "Zwölf".encode("utf-16"))
    assert MediaItem.objects.get().content == "Zwölf"


def test_text_file_may_declare_its_charset(client, db):
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
        b"Content-Type: text/plain; charset=windows-1252\r\n\r\ncaf\xe9\r\n--b--\r\n"
    )
    answer = client.post(MEDIA, body, content_type="multipart/form-data; boundary=b")
    assert answer.status_code == 201, answer.content
    assert MediaItem.objects.get().content == "café"
    assert answer.json()["warnings"] == []


def test_what_a_file_lost_is_said_and_kept_until_its_text_is_another(upload, client):
    body = upload("a.pdf", pdf("first", encoded(b"x", "/Unknown"))).json()
    lost = ["Page 2 is damaged and was left out."]
    assert body["warnings"] == lost
    url = f"{MEDIA}/{body['media_id']}"
    assert client.get(url).json()["warnings"] == lost
    assert client.patch(url, {"title": "x"}, format="json").json()["warnings"] == lost
    changed = client.patch(url, {"content": "whole"}, format="json").json()
    assert changed["warnings"] == []


def test_file_that_finds_no_turn_is_503_with_a_time(upload, media_conf, monkeypatch):
    media_conf(extractions=1)
    monkeypatch.setattr(slots, "_waiting", lambda: threading.Semaphore(0))
    with slots.slot(conf().work_dir, 1, patience=0):
        answer = upload("a.html", b"<p>x")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert MediaItem.objects.count() == 0


@pytest.fixture
def one_a_minute(configure, settings, monkeypatch, tmp_path):
    """Limit all callers to one request a minute."""
    limits = replace(
        settings.EMBEDDINGS.limiter, embeddings=True, per_minute=1, burst=1
    )
    configure(limiter=limits)
    store = SqliteBuckets(tmp_path / "limiter.sqlite3")
    own = Limiter(store)
    monkeypatch.setattr("embeddings.access.throttling.limiter", lambda: own)
    yield
    store.close()


def test_upload_takes_part_in_the_limits_and_a_look_does_not(
    upload, client, one_a_minute
):
    first = upload("a.txt", b"text")
    assert first.status_code == 201
    assert first.headers["x-ratelimit-limit-requests"] == "1"
    assert upload("b.txt", b"text").status_code == 429
    assert client.get(MEDIA).status_code == 200


def test_file_on_its_way_has_no_name_that_could_be_left(upload, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    def look(file, **_):
        seen.extend(tmp_path.glob("*"))
        file.seek(0)
        return Extracted(text=file.read().decode())

    monkeypatch.setattr(ingestion, "extracted", look)
    text = "x" * 3 * 2**20
    assert upload("a.txt", text.encode()).json()["characters"] == len(text)
    assert seen == []


def test_too_large_file_is_413(upload, media_conf):
    media_conf(max_bytes=2000)
    assert upload("a.txt", b"x" * 2000).status_code == 201
    response = upload("b.txt", b"x" * 2001)
    assert response.status_code == 413
    assert "2000 bytes" in response.json()["detail"]


def test_announced_size_is_refused_before_it_is_read(upload, media_conf):
    media_conf(max_bytes=2000)
    response = upload("a.txt", b"x" * 2 * 2**20)
    assert response.status_code == 413


def test_form_without_a_file_is_400(client, db):
    response = client.post(MEDIA, {"title": "x"}, format="multipart")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "file"


def test_other_bodies_are_415(client, db):
    answer = client.post(MEDIA, "text", content_type="text/plain")
    assert answer.status_code == 415
    assert "application/json or multipart/form-data" in answer.json()["detail"]


def test_busy_database_is_503_with_a_time(client, db):
    def locked(execute, sql, *arguments):
        raise OperationalError("database is locked")

    with connection.execute_wrapper(locked):
        response = client.post(MEDIA, {"title": "x", "content": "y"}, format="json")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert "locked" not in response.json()["detail"]


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", ""),
        ("get", "/1"),
        ("patch", "/1"),
        ("delete", "/1"),
        ("post", "/1/embeddings"),
        ("delete", "/1/embeddings"),
        ("get", "/1/embeddings/status"),
        ("post", "/embeddings/batch"),
        ("post", "/embeddings/search"),
        ("get", "/embeddings/jobs"),
        ("get", "/embeddings/jobs/mej_1"),
        ("post", "/embeddings/jobs/mej_1/cancel"),
    ],
)
def test_database_that_fails_is_503_wherever_it_is_asked(
    client, fakes, method, path, error
):
    registry().resolve(fakes["onnx"], MINILM)  # what operators set is read by then
    body = {
        "/1": {"title": "x"},
        "/embeddings/batch": {"media_ids": [1]},
        "/embeddings/search": {"query": "x", "media_ids": [1]},
    }.get(path, {})

    def away(execute, sql, *arguments):
        raise error("the connection is closed")

    with connection.execute_wrapper(away):
        sent = {} if method in ("get", "delete") else {"data": body, "format": "json"}
        response = getattr(client, method)(f"{MEDIA}{path}", **sent)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "5"
    assert "closed" not in response.json()["detail"]


def test_names_are_stored_in_one_normal_form(create, upload, client):
    item = create(title="re\u0301sume\u0301", source_filename="u\u0308.txt")
    assert (item["title"], item["source_filename"]) == ("résumé", "ü.txt")
    url = f"{MEDIA}/{item['media_id']}"
    changed = client.patch(url, {"title": "a\u0308"}, format="json").json()
    assert changed["title"] == "ä"
    body = upload("re\u0301sume\u0301.txt", b"text").json()
    assert (body["title"], body["source_filename"]) == ("résumé", "résumé.txt")


def test_names_are_measured_in_the_form_they_are_stored_in(create, client):
    assert create(title="e\u0301" * 500)["title"] == "é" * 500
    grows = {"title": "\u0958" * 251, "content": "x"}  # two code points each
    answer = client.post(MEDIA, grows, format="json")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "title"


def test_stranger_is_401(db):
    assert APIClient().get(MEDIA).status_code == 401


def test_users_see_their_own_and_admins_all(create, client_of, make_user, admin):
    ada, eve = client_of(make_user("ada")), client_of(make_user("eve"))
    item = create(by=ada)
    url = f"{MEDIA}/{item['media_id']}"
    assert ada.get(url).status_code == 200
    for answer in (
        eve.get(url),
        eve.delete(url),
        eve.patch(url, {"title": "mine"}, format="json"),
    ):
        assert answer.status_code == 404
    assert eve.get(MEDIA).json()["pagination"]["total"] == 0
    assert client_of(admin).get(MEDIA).json()["pagination"]["total"] == 1


def test_read_only_key_may_look_and_not_touch(create, client_of, key_of, ada):
    item = create(by=client_of(ada))
    reader = APIClient(headers={"X-API-KEY": key_of(ada, read_only_media=True)})
    assert reader.get(f"{MEDIA}/{item['media_id']}").status_code == 200
    body = {"title": "x", "content": "y"}
    assert reader.post(MEDIA, body, format="json").status_code == 403
    assert reader.delete(f"{MEDIA}/{item['media_id']}").status_code == 403
