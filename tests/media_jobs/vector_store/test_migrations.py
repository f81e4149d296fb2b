"""The store's migrations go back and forth on both databases."""

import pytest
from django.core.management import call_command
from django.db import connections

from media_jobs.models import MediaItem
from tests.media_jobs.vector_store.conftest import SPACE, chunks, unit


@pytest.fixture(params=["sqlite", "pgvector"])
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
