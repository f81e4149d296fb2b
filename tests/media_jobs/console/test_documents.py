"""The pages of documents: what they show, embedding from them, uploads, search, the map."""

import json
import re

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from embeddings.models import AuditEntry, UsageHour, UserLimits
from embeddings.services.usage.ledger import usage
from media_jobs.models import Job, MediaItem, StoredChunk
from media_jobs.services.maps import MAX_POINTS
from media_jobs.tasks import work
from media_jobs.vector_store.base import Chunk, Space
from media_jobs.vector_store.store import vector_store
from tests.embeddings.staff import give
from tests.fakes import MINILM
from tests.media_jobs.console import act, page

UPLOAD, SEARCH = "/admin/documents/upload/", "/admin/documents/search/"
HOW = {"model": "", "chunk_size": "100", "chunk_overlap": "20", "dimensions": ""}
HOSTILE = "<script>alert(1)</script>"


def address(item):
    return f"/admin/documents/{item.pk}/"


def embed(browser, item, **fields):
    form = {"action": "embed", **HOW, **fields}
    return browser.post(address(item), form, follow=True).content.decode()


def embed_all(browser, *items):
    """Choose documents in their list, and answer the question how to embed them."""
    chosen = {"action": "embed", "_selected_action": [item.pk for item in items]}
    answer = browser.post(page(MediaItem), {**chosen, **HOW}, follow=True)
    return answer.content.decode()


@pytest.fixture
def item(stored):
    """Ada's document that is embedded."""
    return MediaItem.objects.get(title="On cats")


@pytest.fixture
def other(item):
    """Ada's document that is not."""
    Job.objects.filter(status="queued").update(status="cancelled")
    return MediaItem.objects.get(title="On dogs")


def test_document_is_shown_with_its_chunks_and_jobs(item, console):
    shown = console("viewer").get(address(item)).content.decode()
    assert 'id="chunk-0"' in shown
    assert "The cat sat on the mat." in shown
    assert Job.objects.get(media=item).public_id in shown
    assert "Map of the chunks" in shown
    assert MINILM in shown


def test_who_may_only_look_sees_no_buttons_and_can_press_none(item, console):
    viewer = console("viewer")
    shown = viewer.get(address(item)).content.decode()
    assert (
        "<button" not in shown.partition('class="console"')[2].partition("</main>")[0]
    )
    for action in ("embed", "remove", "replace"):
        answer = viewer.post(address(item), {"action": action, **HOW})
        assert answer.status_code == 403
    assert viewer.get(UPLOAD).status_code == 403
    assert not AuditEntry.objects.exists()


def test_documents_of_others_are_not_there_for_who_may_not_see_them(
    item, console, people
):
    assert console("keyman").get(address(item)).status_code == 404
    MediaItem.objects.filter(pk=item.pk).update(owner=people["keyman"])
    assert console("keyman").get(address(item)).status_code == 200


def test_long_text_is_paged_and_a_chunk_leads_to_its_page(item, console):
    MediaItem.objects.filter(pk=item.pk).update(
        content="x" * 25_000 + "The end", characters=25_007
    )
    last = StoredChunk.objects.filter(media=item).latest("index")
    StoredChunk.objects.filter(pk=last.pk).update(start=25_000, end=25_007)
    shown = console("viewer").get(address(item)).content.decode()
    assert "Page 1 of 3" in shown
    there = console("viewer").get(address(item), {"chunk": last.index})
    assert "Page 3 of 3" in there.content.decode()
    assert f'id="chunk-{last.index}"' in there.content.decode()
    for nonsense in ("x", "9" * 30, "-1"):
        found = console("viewer").get(address(item), {"page": nonsense})
        assert found.status_code == 200


def test_document_is_embedded_on_the_account_of_the_operator(other, console, people):
    said = embed(console("full"), other)
    assert "Started 1 job." in said
    job = Job.objects.get(media=other, status="queued")
    assert job.caller == f"user:{people['full'].pk}"
    assert (job.chunk_size, job.chunk_overlap) == (100, 20)
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action) == ("full", "embed")
    assert entry.after is not None
    assert entry.after["job"] == job.public_id
    work()
    usage().flush()
    assert UsageHour.objects.filter(username="full").exists()


def test_reason_is_given_where_nothing_is_started(item, console):
    again = {"model": f"onnx:{MINILM}", "chunk_overlap": ""}
    said = embed(console("full"), item, **again)
    assert (
        "Nothing was started for 1 of 1: The same embeddings are stored already."
        in said
    )
    assert not AuditEntry.objects.exists()
    assert "Started 1 job." in embed(console("full"), item, force="on", **again)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"chunk_size": "10"}, "greater than or equal to 50"),
        ({"chunk_overlap": "100"}, "The overlap must be less than the size."),
        ({"model": "onnx:none"}, "not one of the available choices"),
    ],
)
def test_mistakes_in_how_to_embed_are_named(other, console, fields, says):
    assert says in embed(console("full"), other, **fields)
    assert not Job.objects.filter(media=other, status="queued").exists()


def test_budget_of_the_operator_holds(other, console, people):
    UserLimits.objects.create(user=people["full"], monthly_tokens=0)
    said = embed(console("full"), other)
    assert "Nothing was started: The monthly budget of 0 tokens is used up" in said


def test_several_are_embedded_after_a_question_how(item, other, console):
    browser = console("full")
    asked = act(browser, MediaItem, "embed", item, other).content.decode()
    assert "Embed 2 documents" in asked
    assert not Job.objects.filter(status="queued").exists()
    said = embed_all(browser, item, other)
    assert "Started 2 jobs." in said
    assert AuditEntry.objects.filter(action="embed").count() == 2


def test_several_are_embedded_all_or_none(item, other, console, people):
    UserLimits.objects.create(user=people["full"], max_queued_jobs=0)
    MediaItem.objects.update(owner=people["full"])
    Job.objects.update(owner=people["full"])
    browser = console("full")
    said = embed_all(browser, item, other)
    assert "Nothing was started: The quota of 0 queued jobs" in said
    assert not Job.objects.filter(status="queued").exists()


def test_vectors_are_removed_and_that_is_audited(item, console):
    console("full").post(address(item), {"action": "remove"})
    assert not StoredChunk.objects.exists()
    assert AuditEntry.objects.get().action == "remove vectors"


def replace(browser, item, **fields):
    form = {"action": "replace", "text": "", **fields}
    return browser.post(address(item), form, follow=True).content.decode()


def test_text_is_replaced_and_the_vectors_are_stale(item, console):
    said = replace(console("full"), item, text="Another text.")
    item.refresh_from_db()
    assert item.content == "Another text."
    assert "stale" in said
    assert "The text changed after it was embedded" in said
    replace(console("full"), item, file=a_file("b.md", b"# From a file"))
    item.refresh_from_db()
    assert (item.content, item.source_filename) == ("# From a file", "b.md")
    first = AuditEntry.objects.earliest("pk")
    assert first.action == "change"
    assert first.before != first.after


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "Type a text, or choose a file"),
        ({"file": SimpleUploadedFile("a.exe", b"x")}, "not understood"),
    ],
)
def test_text_stays_where_the_new_one_cannot_be_read(item, console, fields, says):
    assert says in replace(console("full"), item, **fields)
    assert MediaItem.objects.get(pk=item.pk).content == item.content


def test_priority_and_notice_are_the_job_s(other, console):
    embed(console("full"), other, priority="60", webhook_url="http://[::1/")
    assert not Job.objects.filter(status="queued").exists()
    embed(console("full"), other, priority="60")
    assert Job.objects.get(status="queued").priority == 60


def test_hostile_document_is_shown_as_text(item, console):
    MediaItem.objects.filter(pk=item.pk).update(
        title=HOSTILE, metadata={HOSTILE: "</pre>" + HOSTILE}, warnings=[HOSTILE]
    )
    StoredChunk.objects.update(text=HOSTILE)
    for place in (address(item), "/admin/documents/map/", page(MediaItem)):
        shown = console("viewer").get(place).content.decode()
        assert HOSTILE not in shown
        assert "alert(1)" in shown


@pytest.fixture
def chunked(ada, fakes):
    """Return a function that stores a document of so many chunks, all of them embedded."""
    space = Space(provider="onnx", model=MINILM, vector_space=MINILM, dimensions=4)
    dice = np.random.default_rng(7)

    def store(count):
        item = MediaItem.objects.create(
            title=f"{count} chunks",
            owner=ada,
            content="The cat sat on the mat. " * count,
            characters=24 * count,
            checksum="a",
            embedded_checksum="a",
            embedding_count=count,
        )
        chunks = (
            Chunk(
                index=n,
                start=24 * n,
                end=24 * n + 23,
                text="The cat sat on the mat.",
                vector=dice.standard_normal(4).astype("f4"),
            )
            for n in range(count)
        )
        vector_store().replace(item.pk, space, chunks)
        return item

    return store


def test_page_reads_what_it_shows_however_many_chunks_there_are(chunked, console):
    viewer, asked = console("viewer"), {}
    for count in (10, 1000):
        address_of_it = address(chunked(count))
        viewer.get(address_of_it)
        with CaptureQueriesContext(connection) as caught:
            shown = viewer.get(address_of_it).content.decode()
        asked[count] = [query["sql"] for query in caught]
        assert shown.count(": The cat sat") >= min(count, MAX_POINTS)
    few, many = asked.values()
    assert len(few) == len(many)
    chunks = re.compile(r'FROM ("media_jobs_storedchunk"|media_jobs_chunkvector\b)')
    of_chunks = [sql for sql in many if chunks.search(sql)]
    assert len(of_chunks) == 3
    points, vectors, places = of_chunks
    assert f"LIMIT {MAX_POINTS}" in points
    assert points.count(", ") >= MAX_POINTS  # by their numbers
    assert "json_each" in vectors or "= ANY(" in vectors
    assert '"start" < 10000' in places
    assert all("SUBSTR" in sql for sql in many if '."content"' in sql)


def test_page_takes_few_queries(item, console, django_assert_max_num_queries):
    browser = console("viewer")
    browser.get(address(item))
    with django_assert_max_num_queries(20) as asked:
        browser.get(address(item))
    assert not any("COUNT(" in query["sql"] for query in asked.captured_queries)


def send(browser, *files, **fields):
    form = {"action": "upload", "metadata": "", **fields}
    return browser.post(UPLOAD, {**form, "file": files})


def a_file(name="notes.txt", content=b"Some notes."):
    return SimpleUploadedFile(name, content)


def test_files_are_stored_as_the_user_s_own(console, people):
    answer = send(console("full"), a_file(), a_file("b.md", b"# B"), language="en")
    assert "Stored 2 of 2." in answer.content.decode()
    first, second = MediaItem.objects.order_by("pk")
    assert (first.title, first.content) == ("notes", "Some notes.")
    assert (first.owner, first.language) == (people["full"], "en")
    assert second.source_filename == "b.md"
    entry = AuditEntry.objects.earliest("pk")
    assert (entry.actor, entry.action, entry.target) == (
        "full",
        "add",
        "media item notes",
    )


def test_text_is_stored_with_its_title_and_metadata(console):
    fields = {"text": "A text.", "title": "A\u0308", "metadata": '{"a": 1}'}
    send(console("full"), **fields)
    item = MediaItem.objects.get()
    assert (item.title, item.content, item.metadata) == ("Ä", "A text.", {"a": 1})


def test_file_that_cannot_be_read_is_named_and_the_others_are_stored(console):
    answer = send(
        console("full"), a_file("a.exe", b"x"), a_file(), a_file("e.txt", b"")
    )
    said = answer.content.decode()
    assert "a.exe: Files named like" in said
    assert "e.txt: file is empty." in said
    assert "Stored 1 of 3." in said


def test_large_file_is_refused(console, media_conf):
    media_conf(max_bytes=10)
    said = send(console("full"), a_file()).content.decode()
    assert "notes.txt is over the limit of 10 bytes." in said


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "Choose a file, or type a text."),
        ({"text": "A text."}, "A text needs a title."),
        ({"text": "A.", "title": "A", "metadata": "[1]"}, "must be a JSON object"),
        ({"text": "A.", "title": "A", "owner": "nobody"}, "no active user nobody"),
    ],
)
def test_mistakes_of_an_upload_are_named(console, fields, says):
    assert says in send(console("full"), **fields).content.decode()
    assert not MediaItem.objects.exists()


def test_script_gets_json(console):
    browser, ask = console("full"), {"Accept": "application/json"}
    form = {"action": "upload", "metadata": ""}
    good = browser.post(UPLOAD, {**form, "file": a_file()}, headers=ask)
    item = MediaItem.objects.get()
    assert json.loads(good.content) == {"title": "notes", "link": address(item)}
    bad = browser.post(UPLOAD, {**form, "file": a_file("a.exe")}, headers=ask)
    assert "not understood" in json.loads(bad.content)["problem"]
    none = browser.post(UPLOAD, form, headers=ask)
    assert json.loads(none.content) == {
        "problem": "Files: Choose a file, or type a text."
    }


def test_owner_is_chosen_by_who_may_change_documents_and_by_nobody_else(
    console, people, ada
):
    send(console("full"), a_file(), owner="ada")
    assert MediaItem.objects.get().owner == ada
    MediaItem.objects.all().delete()
    give(people["keyman"], "add_mediaitem")
    assert 'name="owner"' not in console("keyman").get(UPLOAD).content.decode()
    send(console("keyman"), a_file(), owner="ada")
    assert MediaItem.objects.get().owner == people["keyman"]


def test_quota_is_the_owner_s(console, ada):
    UserLimits.objects.create(user=ada, max_documents=0)
    said = send(console("full"), a_file(), owner="ada").content.decode()
    assert "The quota of 0 documents is used up" in said


def find(browser, part="", **fields):
    form = {"text": "cat mat", "hybrid": "on", "top_k": "5", **fields}
    return browser.post(SEARCH + part, form)


def test_hits_are_shown_in_their_context_with_their_words_marked(item, console):
    shown = find(console("viewer"), part="?part=result").content.decode()
    assert "<html" not in shown
    assert "<mark>cat</mark>" in shown
    assert f"{address(item)}?chunk=" in shown
    assert "The cat sat on the mat. The" in shown.replace("<mark>", "").replace(
        "</mark>", ""
    )


def test_search_by_meaning_alone_marks_no_words(item, console):
    shown = find(console("viewer"), hybrid="").content.decode()
    assert "<mark>" not in shown
    assert "chunk even" in shown


def test_filters_narrow_the_search(item, console):
    wanted = {"title": "dogs", "metadata": '{"a": 1}', "media_ids": f"{item.pk}"}
    for name, value in wanted.items():
        if name == "media_ids":
            continue
        answer = find(console("viewer"), **{name: value})
        assert answer.context["hits"] == []
        assert "No document that fits is embedded." in answer.content.decode()
    assert find(console("viewer"), media_ids=f"{item.pk}").context["hits"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"text": ""}, "This field is required"),
        ({"top_k": "51"}, "less than or equal to 50"),
        ({"metadata": '{"a": {"b": 1}}'}, "true, false or null"),
        ({"media_ids": "one"}, "Give whole numbers"),
        ({"media_ids": "12345"}, "There is no media item 12345."),
        ({"model": "onnx:only-onnx"}, "cannot be compared"),
    ],
)
def test_mistakes_in_a_search_are_named(item, console, fields, says):
    shown = find(console("viewer"), part="?part=result", **fields)
    assert says in shown.content.decode()


def test_search_finds_only_what_the_searcher_may_see_and_is_its_use(
    item, console, people
):
    assert find(console("keyman")).context["hits"] == []
    assert find(console("viewer")).context["hits"]
    usage().flush()
    assert UsageHour.objects.filter(username="viewer").exists()
    assert not UsageHour.objects.filter(username="keyman").exists()


def test_search_takes_few_queries_however_many_hits(
    item, console, django_assert_max_num_queries
):
    browser = console("viewer")
    find(browser)
    with django_assert_max_num_queries(24):  # pgvector takes a savepoint more
        find(browser, top_k="50")


def test_map_of_all_says_of_what_it_is(item, console):
    shown = console("viewer").get("/admin/documents/map/").content.decode()
    assert "Each document is shown by its first chunk." in shown
    assert "On cats" in shown
    empty = console("keyman").get("/admin/documents/map/").content.decode()
    assert "No document is embedded yet." in empty


def test_what_goes_with_a_document_is_said_before_it_is_deleted(item, other, console):
    Job.objects.filter(media=other).update(status="queued")
    shown = console("boss").get(page(MediaItem, "delete", item.pk)).content.decode()
    assert f"Stored chunks, with their vectors: {item.embedding_count}" in shown
    assert "Jobs that wait or run, which are cancelled: 0" in shown
    shown = console("boss").get(page(MediaItem, "delete", other.pk)).content.decode()
    assert "Jobs that wait or run, which are cancelled: 1" in shown


@pytest.mark.parametrize(
    ("model", "link"),
    [(MediaItem, UPLOAD), (Job, page(MediaItem)), (StoredChunk, page(MediaItem))],
)
def test_empty_list_says_what_to_do_and_leads_there(console, model, link):
    shown = console("boss").get(page(model)).content.decode()
    assert f'<a class="button" href="{link}">' in shown


def test_empty_list_leads_nobody_where_they_may_not_go(console):
    shown = console("viewer").get(page(MediaItem)).content.decode()
    assert "Nothing here yet" in shown
    assert f'<a class="button" href="{UPLOAD}">' not in shown


def test_page_leads_back_to_the_list_for_who_may_see_it(item, console, people):
    back = f'<a href="{page(MediaItem)}">'
    assert back in console("viewer").get(address(item)).content.decode()
    MediaItem.objects.filter(pk=item.pk).update(owner=people["keyman"])
    assert back not in console("keyman").get(address(item)).content.decode()
