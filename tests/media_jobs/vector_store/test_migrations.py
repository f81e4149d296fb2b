"""The store's migrations go back and forth on both databases."""

import pytest
from django.core.management import call_command
from django.db import connections

from media_jobs.models import MediaItem
from tests.media_jobs.vector_store.conftest import SPACE, chunks, unit


@pytest.fixture(params=["sqlite", pytest.param("pgvector", marks=pytest.mark.e2e)])
def store(request):
    return request.getfixturevalue(f"{request.param}_store")


def test_tables_of_the_store_can_be_dropped_and_made_again(store, new_item):
    store.replace(new_item(), SPACE, chunks(unit(1, 0, 0, 0)))
    call_command("migrate", "media_jobs", "0001", database=store.using, verbosity=0)
    tables = connections[store.using].introspection.table_names()
    assert [name for name in tables if "chunk" in name] == []
    call_command("migrate", "media_jobs", database=store.using, verbosity=0)
    item = new_item()
    store.replace(item, SPACE, chunks(unit(1, 0, 0, 0)))
    MediaItem.objects.using(store.using).get(pk=item).delete()
    assert store.search(unit(1, 0, 0, 0), SPACE, top_k=5) == []


def test_documents_survive_the_column_of_revisions_and_their_texts_stay_last(
    store, new_item
):
    item = new_item()
    store.replace(item, SPACE, chunks(unit(1, 0, 0, 0)))
    MediaItem.objects.using(store.using).filter(pk=item).update(content="The text.")
    for migration in ("0004", None):
        names = [name for name in ("media_jobs", migration) if name]
        call_command("migrate", *names, database=store.using, verbosity=0)
    found = MediaItem.objects.using(store.using).get(pk=item)
    assert (found.content, found.embedded_revision) == ("The text.", None)
    assert len(store.search(unit(1, 0, 0, 0), SPACE, top_k=5)) == 1
    connection = connections[store.using]
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(
            cursor, MediaItem._meta.db_table
        )
    # SQLite reads through a long text to the columns behind it.
    last = columns[-1].name if connection.vendor == "sqlite" else "content"
    assert last == "content"


def test_texts_that_were_stored_before_are_measured(store, new_item):
    item = new_item()
    documents = MediaItem.objects.using(store.using)
    documents.filter(pk=item).update(content="mät 東京", text_bytes=0)
    for migration in ("0005", None):
        names = [name for name in ("media_jobs", migration) if name]
        call_command("migrate", *names, database=store.using, verbosity=0)
    assert documents.get(pk=item).text_bytes == len("mät 東京".encode())
