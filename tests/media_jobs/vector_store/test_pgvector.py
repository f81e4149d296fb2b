"""What only pgvector has: indexes, how they are built, half precision, and a database that may lack the extension."""

from dataclasses import replace

import numpy as np
import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from media_jobs.models import MediaItem, StoredChunk
from media_jobs.vector_store import pgvector, pgvector_index
from media_jobs.vector_store.orm import OrmVectorStore
from media_jobs.vector_store.pgvector import PgVectorStore
from media_jobs.vector_store.pgvector_index import convert, stored_type
from media_jobs.vector_store.store import choose
from tests.media_jobs.vector_store.conftest import SPACE, chunks, unit

EAST = unit(1, 0, 0, 0)
OLDER = "UPDATE pg_extension SET extversion = '0.8.3' WHERE extname = 'vector'"


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
    assert f"media_jobs_chunkvector_{space.pk}_half " in plan
    exact = sorted((-float(vector @ EAST), index) for index, vector in enumerate(many))
    assert [hit.chunk_index for hit in hits] == [index for _, index in exact[:10]]


def test_loaded_chunks_have_no_index_until_it_is_built(store, new_item, many):
    with transaction.atomic(using=store.using):
        store.load(SPACE, [(new_item(), chunks(*many))])
    space = store._space_row(SPACE)
    assert indexes(store, space) == [[], []]
    store.build_index(SPACE)
    assert indexes(store, space) == [["_half"], []]


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


def sql(store, statement, *values):
    with connections[store.using].cursor() as cursor:
        cursor.execute(statement, values or None)
        return [row[0] for row in cursor.fetchall()] if cursor.description else []


def indexes(store, space):
    """Return what follows the number in the names of the space's indexes that searches can use, and cannot."""
    names = "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indisvalid = %s AND relname ~ %s"
    name = f"media_jobs_chunkvector_{space.pk}"
    return [
        [
            found.removeprefix(name)
            for found in sql(store, names, valid, f"^{name}(_|$)")
        ]
        for valid in (True, False)
    ]


@pytest.fixture
def unindexed(store, new_item, many, monkeypatch):
    """A space that was too large for an index while it was filled, and its row."""
    monkeypatch.setattr(pgvector_index, "INDEXED_AT_ONCE", 100)
    for table in (100, 900):
        store.replace(new_item(), SPACE, chunks(*many[:table]))
    space = store._space_row(SPACE)
    sql(store, f"DROP INDEX media_jobs_chunkvector_{space.pk}_half")
    store.replace(new_item(), SPACE, chunks(EAST))
    assert indexes(store, space) == [[], []]
    return space


def build(store, **options):
    call_command("build_index", database=store.using, **options)


def test_space_without_an_index_is_searched_and_says_so_once(store, unindexed):
    with capture_logs() as logs:
        for _ in range(3):
            assert store.search(EAST, SPACE, top_k=1)[0].score == pytest.approx(1)
    assert [entry["event"] for entry in logs] == ["search_without_index"]
    (sentence,) = store.slow_searches()
    assert "1001 chunks of small (4)" in sentence
    assert "build_index" in sentence


def test_index_is_built_after_a_bulk_load(store, unindexed, capsys):
    build(store, memory_mb=64, workers=0)
    assert indexes(store, unindexed) == [["_half"], []]
    _, plan = plan_of_search(store, top_k=10)
    assert f"media_jobs_chunkvector_{unindexed.pk}_half " in plan
    assert store.slow_searches() == []
    assert sql(store, "SHOW maintenance_work_mem") == ["64MB"]  # the server's own
    build(store)
    assert "1001 chunks, indexed already" in capsys.readouterr().out
    build(store, again=True)
    assert indexes(store, unindexed) == [["_half"], []]


def test_what_a_killed_build_left_is_built_again(store, unindexed):
    build(store)
    sql(store, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(%s)",
        f"media_jobs_chunkvector_{unindexed.pk}_half")  # fmt: skip
    assert len(store.slow_searches()) == 1
    build(store)
    assert indexes(store, unindexed) == [["_half"], []]


def test_two_builds_at_once_are_refused(store, unindexed, postgres_server):
    url = postgres_server.url.replace("/postgres?", "/vectors?")
    with psycopg.connect(url) as other:
        other.execute(pgvector_index.TAKE_BUILD)
        with pytest.raises(CommandError, match="Another process"):
            build(store)
    build(store)


def test_embedded_store_needs_no_index(sqlite_store):
    with pytest.raises(CommandError, match="needs no index"):
        build(sqlite_store)


@pytest.mark.parametrize("option", ["--memory-mb=0", "--memory-mb=x", "--workers=-1"])
def test_senseless_options_of_a_build_are_refused(option):
    with pytest.raises(CommandError, match="must be a number from"):
        call_command("build_index", option)


def test_cosines_of_half_precision_are_within_the_documented_bound(store, new_item):
    assert stored_type(connections[store.using]) == "halfvec"
    space = replace(SPACE, dimensions=384)
    random = np.random.default_rng(8)
    vectors = [unit(*vector) for vector in random.normal(size=(40, 384))]
    store.replace(new_item(), space, chunks(*vectors))
    for hit in store.search(vectors[3], space, top_k=40):
        exact = float(vectors[hit.chunk_index] @ vectors[3])
        assert hit.score == pytest.approx(exact, abs=0.0005)


def test_vectors_of_an_earlier_version_stay_whole_until_the_operator_converts_them(
    store, new_item, many
):
    connection = connections[store.using]
    store.replace(new_item(), SPACE, chunks(*many))
    space = store._space_row(SPACE)
    exact = sorted((-float(vector @ EAST), index) for index, vector in enumerate(many))
    convert(store.using, "vector")
    try:
        sql(store, f"CREATE INDEX media_jobs_chunkvector_{space.pk} ON media_jobs_chunkvector"
            " USING hnsw ((embedding::vector(4)) vector_ip_ops)"
            f" WHERE space_id = {space.pk}")  # fmt: skip
        store.replace(new_item(), SPACE, chunks(*many, text="whole"))
        call_command("migrate", "media_jobs", database=store.using, verbosity=0)
        analyse(store)
        hits, plan = plan_of_search(store, top_k=10)
        assert f"media_jobs_chunkvector_{space.pk} " in plan
        whole = [hit for hit in hits if hit.text.startswith("whole")]
        assert [hit.score for hit in whole] == pytest.approx(
            [-score for score, _ in exact[:5]], abs=1e-7
        )
        build(store)
        assert stored_type(connection) == "vector"
        assert indexes(store, space) == [["_half"], []]
        _, plan = plan_of_search(store, top_k=10)
        assert f"media_jobs_chunkvector_{space.pk}_half " in plan
        build(store, convert=True)
    finally:
        if stored_type(connection) == "vector":
            convert(store.using, "halfvec")
    assert stored_type(connection) == "halfvec"
    assert indexes(store, space) == [["_half"], []]
    found = store.search(EAST, SPACE, top_k=10)
    assert [hit.score for hit in found[::2]] == pytest.approx(
        [-score for score, _ in exact[:5]], abs=0.0005
    )


@pytest.fixture
def plain(new_database, postgres_server):
    """A database whose owner may not install extensions: its alias, and its URL for a superuser."""
    name = f"plain_{len(connections.settings)}"
    url = postgres_server.create_database(name)
    with psycopg.connect(url, autocommit=True) as cursor:
        cursor.execute(f"CREATE ROLE {name} LOGIN")
        cursor.execute(f"ALTER DATABASE {name} OWNER TO {name}")
        cursor.execute(f"GRANT ALL ON SCHEMA public TO {name}")
    with capture_logs() as logs:
        alias = new_database(
            f"vectors_{name}",
            ENGINE="django.db.backends.postgresql",
            NAME=name,
            USER=name,
            HOST=postgres_server.folder,
        )
    assert [entry["event"] for entry in logs] == ["pgvector_not_used"]
    return alias, url


def test_database_without_the_extension_is_served_by_the_embedded_store_until_it_comes(
    plain, django_db_blocker
):
    alias, url = plain
    with django_db_blocker.unblock():
        item = MediaItem.objects.using(alias).create(title="A title").pk
        embedded = choose(alias)
        assert isinstance(embedded, OrmVectorStore)
        embedded.replace(item, SPACE, chunks(EAST, -EAST))
        before = embedded.search(EAST, SPACE, top_k=5)
        with psycopg.connect(url) as superuser:
            superuser.execute("CREATE EXTENSION vector")
        call_command("migrate", "media_jobs", database=alias, verbosity=0)
        store = choose(alias)
        assert isinstance(store, PgVectorStore)
        assert store.search(EAST, SPACE, top_k=5) == before
        assert not StoredChunk.objects.using(alias).exclude(vector=None).exists()


def test_version_that_corrupts_indexes_is_refused_and_updated_where_that_can_be(
    plain, django_db_blocker
):
    alias, url = plain

    def migrate():
        call_command("migrate", "media_jobs", database=alias, verbosity=0)

    with (
        django_db_blocker.unblock(),
        psycopg.connect(url, autocommit=True) as superuser,
    ):
        superuser.execute("CREATE EXTENSION vector")
        superuser.execute(OLDER)
        with capture_logs() as logs:
            migrate()
        assert [entry["event"] for entry in logs] == ["pgvector_not_used"]
        assert "0.8.4 or later" in logs[0]["reason"]
        assert isinstance(choose(alias), OrmVectorStore)
        superuser.execute("ALTER EXTENSION vector UPDATE")
        migrate()
        assert isinstance(choose(alias), PgVectorStore)
        superuser.execute(OLDER)
        with pytest.raises(CommandError, match=r"vector is 0\.8\.3.*ALTER EXTENSION"):
            migrate()
        superuser.execute(f"ALTER ROLE {alias.removeprefix('vectors_')} SUPERUSER")
        migrate()
        version = superuser.execute(
            "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        )
        assert version.fetchall() > [("0.8.3",)]
