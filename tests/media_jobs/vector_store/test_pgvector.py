"""What only pgvector has: indexes, their limits, and a database that may lack the extension."""

from dataclasses import replace

import numpy as np
import psycopg
import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from media_jobs.models import MediaItem, StoredChunk
from media_jobs.vector_store import pgvector
from media_jobs.vector_store.orm import OrmVectorStore
from media_jobs.vector_store.pgvector import PgVectorStore
from media_jobs.vector_store.store import choose
from tests.media_jobs.vector_store.conftest import SPACE, chunks, unit

EAST = unit(1, 0, 0, 0)


@pytest.fixture
def store(pgvector_store):
    return pgvector_store


@pytest.fixture(scope="module")
def many():
    """Vectors of four dimensions, enough for the planner to prefer an index."""
    return [unit(*vector) for vector in np.random.default_rng(3).normal(size=(1000, 4))]


def plan_of_search(store, **options):
    """Search and return the hits, and how the last query of the search is planned."""
    connection = connections[store.using]
    with CaptureQueriesContext(connection) as queries:
        hits = store.search(EAST, SPACE, **options)
    sql = next(
        query["sql"] for query in reversed(queries) if "embedding" in query["sql"]
    )
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}")
        return hits, "\n".join(row[0] for row in cursor.fetchall())


def analyse(store):
    with connections[store.using].cursor() as cursor:
        cursor.execute("ANALYZE media_jobs_chunkvector")


def test_search_of_a_large_space_uses_its_own_index(store, new_item, many):
    store.replace(new_item(), replace(SPACE, vector_space="other"), chunks(*many))
    store.replace(new_item(), SPACE, chunks(*many))
    analyse(store)
    space = store._space_row(SPACE)
    hits, plan = plan_of_search(store, top_k=10)
    assert f"media_jobs_chunkvector_{space.pk} " in plan
    exact = sorted((-float(vector @ EAST), index) for index, vector in enumerate(many))
    assert [hit.chunk_index for hit in hits] == [index for _, index in exact[:10]]


def test_loaded_chunks_have_no_index_until_it_is_built(store, new_item, many):
    with transaction.atomic(using=store.using):
        store.load(SPACE, [(new_item(), chunks(*many))])
    connection = connections[store.using]
    name = f"media_jobs_chunkvector_{store._space_row(SPACE).pk}"
    assert not pgvector.exists(connection, name)
    store.build_index(SPACE)
    assert pgvector.exists(connection, name)


def test_filter_that_hides_the_nearest_chunks_still_gives_all_that_are_asked_for(
    store, new_item, many, monkeypatch
):
    monkeypatch.setattr(pgvector, "FEW_CHUNKS", 5)
    crowd, item = new_item(), new_item()
    store.replace(crowd, SPACE, chunks(*many))
    store.replace(item, SPACE, chunks(*[-EAST] * 20))
    analyse(store)
    hits = store.search(EAST, SPACE, top_k=15, media_ids=[item])
    assert [hit.chunk_index for hit in hits] == list(range(15))


def test_few_chunks_are_compared_one_by_one(store, new_item, many):
    crowd, item = new_item(), new_item()
    store.replace(crowd, SPACE, chunks(*many))
    store.replace(item, SPACE, chunks(EAST, -EAST))
    analyse(store)
    hits, plan = plan_of_search(store, top_k=2, media_ids=[item])
    assert [hit.chunk_index for hit in hits] == [0, 1]
    assert "media_jobs_chunkvector_items" in plan


@pytest.mark.parametrize("dimensions", [2001, 4000, 4001, 8192])
def test_long_vectors_are_stored_and_found_exactly(store, new_item, dimensions):
    space = replace(SPACE, dimensions=dimensions)
    random = np.random.default_rng(5)
    vectors = [unit(*vector) for vector in random.normal(size=(20, dimensions))]
    store.replace(new_item(), space, chunks(*vectors))
    hits = store.search(vectors[7], space, top_k=3)
    best = sorted((-float(vector @ vectors[7]), n) for n, vector in enumerate(vectors))
    assert [hit.chunk_index for hit in hits] == [n for _, n in best[:3]]
    assert [hit.score for hit in hits] == pytest.approx(
        [-s for s, _ in best[:3]], abs=1e-5
    )


@pytest.fixture
def plain_alias(new_database, postgres_server):
    """A database whose owner may not install extensions."""
    url = postgres_server.create_database("plain")
    with psycopg.connect(url, autocommit=True) as cursor:
        cursor.execute("CREATE ROLE plain LOGIN")
        cursor.execute("ALTER DATABASE plain OWNER TO plain")
        cursor.execute("GRANT ALL ON SCHEMA public TO plain")
    with capture_logs() as logs:
        alias = new_database(
            "vectors_plain",
            ENGINE="django.db.backends.postgresql",
            NAME="plain",
            USER="plain",
            HOST=postgres_server.folder,
        )
    assert [entry["event"] for entry in logs] == ["pgvector_not_used"]
    return alias


def test_database_without_the_extension_is_served_by_the_embedded_store_until_it_comes(
    plain_alias, postgres_server, django_db_blocker
):
    with django_db_blocker.unblock():
        item = MediaItem.objects.using(plain_alias).create(title="A title").pk
        embedded = choose(plain_alias)
        assert isinstance(embedded, OrmVectorStore)
        embedded.replace(item, SPACE, chunks(EAST, -EAST))
        before = embedded.search(EAST, SPACE, top_k=5)
        url = postgres_server.url.replace("/postgres?", "/plain?")
        with psycopg.connect(url) as superuser:
            superuser.execute("CREATE EXTENSION vector")
        call_command("migrate", "media_jobs", database=plain_alias, verbosity=0)
        store = choose(plain_alias)
        assert isinstance(store, PgVectorStore)
        assert store.search(EAST, SPACE, top_k=5) == before
        assert not StoredChunk.objects.using(plain_alias).exclude(vector=None).exists()
