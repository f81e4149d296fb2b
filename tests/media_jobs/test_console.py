"""The console's pages for documents, chunks and jobs."""

import json

import pytest
from django.contrib import admin
from django.contrib.auth.models import User

from embeddings.console.lists import MOST
from embeddings.models import AuditEntry
from media_jobs.models import Job, MediaItem, StoredChunk
from media_jobs.services.claims import try_again
from media_jobs.tasks import work
from tests.fakes import MINILM
from tests.media_jobs.conftest import claimed_job

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


def test_form_of_a_document_leads_to_its_page(admin_client, item):
    page = admin_client.get(f"{ITEMS}{item.pk}/change/").content.decode()
    assert f'href="/admin/documents/{item.pk}/"' in page


def test_lists_lead_to_the_pages_of_documents_and_jobs(admin_client, item):
    job = Job.objects.get()
    assert f"/admin/documents/{item.pk}/" in admin_client.get(ITEMS).content.decode()
    assert f"/admin/jobs/{job}/" in admin_client.get(JOBS).content.decode()
    chunk = f"/admin/documents/{item.pk}/?chunk=1#chunk-1"
    assert chunk in admin_client.get(CHUNKS).content.decode()


def test_title_can_be_changed_and_the_text_cannot(admin_client, item):
    form = {"title": "Dogs", "metadata": "{}", "content": "Gone."}
    admin_client.post(f"{ITEMS}{item.pk}/change/", form)
    item.refresh_from_db()
    assert item.title == "Dogs"
    assert item.content.startswith("The cat")
    assert AuditEntry.objects.get().action == "change"


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (json.dumps(json.loads('{"a":' * 33 + "1" + "}" * 33)), "32 levels"),
        ('{"a": 18446744073709551616}', "64 bits"),
        ('{"a": NaN}', "finite"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": "\\u0000"}', "NUL"),
        ("[1]", "object"),
        ('{"a":' * 2000 + "1" + "}" * 2000, "less depth"),
        (f'{{"a": {"9" * 5000}}}', "shorter numbers"),
        ('{"a": ', "valid JSON"),
    ],
)
def test_metadata_has_the_bounds_of_the_api(admin_client, item, metadata, says):
    form = {"title": "Dogs", "metadata": metadata}
    page = admin_client.post(f"{ITEMS}{item.pk}/change/", form)
    assert says in page.content.decode()
    item.refresh_from_db()
    assert (item.title, item.metadata) == ("On cats", {})


@pytest.mark.sqlite_only("PostgreSQL stores no such text")
def test_document_with_half_of_a_surrogate_pair_is_shown(admin_client, item):
    MediaItem.objects.update(metadata={"a": "\ud800é"})
    page = admin_client.get(f"{ITEMS}{item.pk}/change/").content.decode()
    assert "\\ud800é" in page


def test_title_is_stored_in_one_normal_form(admin_client, item):
    form = {"title": "A\u0308rzte", "metadata": ""}
    admin_client.post(f"{ITEMS}{item.pk}/change/", form)
    item.refresh_from_db()
    assert (item.title, item.metadata) == ("Ärzte", {})


@pytest.mark.parametrize("asked", ["ärzte", "a\u0308rzte die", "RE\u0301SUME\u0301"])
def test_search_finds_any_case_and_normal_form(admin_client, create, asked):
    create(title="Die ÄRZTE", source_filename="résumé.pdf")
    create(title="Andere")
    page = admin_client.get(ITEMS, {"q": asked})
    assert [row.title for row in page.context["cl"].queryset] == ["Die ÄRZTE"]


@pytest.mark.parametrize(
    "page",
    [page for page in admin.site._registry.values() if page.search_fields],
    ids=lambda page: page.opts.model_name,
)
def test_every_page_searches_without_case_and_in_one_normal_form(page, rf):
    by_number = {"=media__id"}
    for name in {*page.get_search_fields(rf.get("/"))} - by_number:
        assert name.endswith("__folded_contains")


def test_people_are_found_in_any_case_and_normal_form(admin_client):
    User.objects.create(username="jürgen", last_name="ÄRZTE")
    for asked in ("JU\u0308RGEN", "ärzte"):
        page = admin_client.get("/admin/auth/user/", {"q": asked})
        assert [row.username for row in page.context["cl"].queryset] == ["jürgen"]


def test_deleted_document_takes_its_vectors_along(admin_client, item):
    admin_client.post(f"{ITEMS}{item.pk}/delete/", {"post": "yes"})
    assert not MediaItem.objects.exists()
    assert not StoredChunk.objects.exists()
    assert AuditEntry.objects.get().action == "delete"


def test_jobs_are_cancelled_by_action(admin_client, create, start):
    start(create()["media_id"])
    job = Job.objects.get()
    admin_client.post(JOBS, {"action": "cancel", "_selected_action": [job.pk]})
    assert Job.objects.get().status == "cancelled"
    assert AuditEntry.objects.get().action == "cancel"


@pytest.mark.parametrize("url", [JOBS, CHUNKS])
def test_jobs_and_chunks_are_read_only(admin_client, item, url):
    model = Job if url == JOBS else StoredChunk
    row = model.objects.earliest("pk")
    page = admin_client.get(f"{url}{row.pk}/change/", follow=True)
    assert page.status_code == 200
    assert admin_client.get(f"{url}add/").status_code == 403
    assert (
        admin_client.post(f"{url}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    )


def test_chunks_are_found_by_the_number_of_their_document(admin_client, item):
    page = admin_client.get(CHUNKS, {"q": str(item.pk)})
    assert page.context["cl"].result_list[0].media == item
    page = admin_client.get(CHUNKS, {"q": str(item.pk + 1)})
    assert not page.context["cl"].result_list
    page = admin_client.get(CHUNKS, {"q": "cats"})
    assert "Chunks are found by the number of their media item" in page.content.decode()
    assert not page.context["cl"].result_list


@pytest.mark.parametrize("url", [ITEMS, JOBS, CHUNKS])
def test_no_list_counts_its_rows_or_reads_them_all_for_its_filters(
    admin_client, item, url, django_assert_max_num_queries
):
    with django_assert_max_num_queries(10) as asked:
        admin_client.get(url)
    for query in asked.captured_queries:
        if "COUNT(" in query["sql"]:  # of the first pages alone
            assert f"LIMIT {MOST + 1})" in query["sql"], query["sql"]
        assert "DISTINCT" not in query["sql"], query["sql"]


def test_healthy_document_has_a_badge_and_no_red_cross(admin_client, item):
    page = admin_client.get(ITEMS).content.decode()
    assert "embedded" in page
    assert "stale" not in page
    MediaItem.objects.update(checksum="other")
    assert "stale" in admin_client.get(ITEMS).content.decode()


def test_failing_job_looks_like_one_in_the_list(admin_client, create, start):
    start(create()["media_id"])
    try_again(claimed_job(), "The text <b>broke</b> it.", pause_seconds=60)
    page = admin_client.get(JOBS).content.decode()
    assert "failing" in page
    assert "The text &lt;b&gt;broke&lt;/b&gt; it. Next try 20" in page


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("status__exact", "completed", 1),
        ("status__exact", "failed", 0),
        ("embedding_model", MINILM, 1),
        ("embedding_model", "other", 0),
        ("owner", "1", 0),
        ("owner", "nonsense", 0),
    ],
)
def test_jobs_are_filtered(admin_client, item, name, value, found):
    page = admin_client.get(JOBS, {name: value})
    assert len(page.context["cl"].result_list) == found
