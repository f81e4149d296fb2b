"""The embedded store's copy in memory: always the database's state, exact, and bounded."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from django.db import connections

from media_jobs.vector_store import matrix, orm
from media_jobs.vector_store.coded import block_bytes
from media_jobs.vector_store.orm import OrmVectorStore
from providers.state import server_folder
from tests.media_jobs.vector_store.conftest import SPACE, chunks, unit

EAST, NORTH = unit(1, 0, 0, 0), unit(0, 1, 0, 0)
ELSEWHERE = """
import sys
import django
django.setup()
from media_jobs.vector_store.store import vector_store
from tests.media_jobs.vector_store.conftest import SPACE, chunks, unit
vector_store().replace(int(sys.argv[1]), SPACE, chunks(unit(0, 1, 0, 0), text="from elsewhere"))
"""


@pytest.fixture(params=["its own", "shared"])
def store(request, monkeypatch, tmp_path, sqlite_store):
    """A store whose copies are its process's own, and one that shares them with others of its server."""
    monkeypatch.setattr(server_folder, "_of_server", [])
    if request.param == "its own":
        yield sqlite_store
        return
    folder = server_folder.ServerFolder(tmp_path)
    yield OrmVectorStore(sqlite_store.using)
    folder.close()


@pytest.fixture
def small_blocks(monkeypatch):
    """Cut matrices into blocks of a few rows, so that few rows make many."""
    for module in (matrix, orm):
        monkeypatch.setattr(module, "BLOCK_ROWS", 8)
    monkeypatch.setattr(orm, "FEW_CHUNKS", 0)


def texts(store, query=EAST, space=SPACE, **options):
    return [hit.text for hit in store.search(query, space, top_k=100, **options)]


@pytest.mark.e2e
def test_what_another_process_stores_is_found_by_the_next_search(store, new_item):
    one, other = new_item(), new_item()
    store.replace(one, SPACE, chunks(EAST, text="own"))
    assert texts(store) == ["own 0"]
    path = connections[store.using].settings_dict["NAME"]
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(other)],
        env={
            **os.environ,
            "DATABASE_URL": f"sqlite:///{path}",
            "DJANGO_SETTINGS_MODULE": "embeddings_project.settings",
        },
        check=True,
        timeout=60,
    )
    assert texts(store) == ["own 0", "from elsewhere 0"]


def test_copy_stays_exact_through_any_changes_of_others(store, new_item, small_blocks):
    random = np.random.default_rng(7)
    other = OrmVectorStore(store.using)  # has a memory of its own, like another process
    items = [new_item() for _ in range(12)]
    held = {}
    for _ in range(40):
        item = int(random.choice(items))
        if random.random() < 0.25:
            other.delete([item])
            held.pop(item, None)
        else:
            vectors = [
                unit(*random.normal(size=4)) for _ in range(random.integers(1, 6))
            ]
            other.replace(item, SPACE, chunks(*vectors))
            held[item] = vectors
        query = unit(*random.normal(size=4))
        expected = sorted(
            (-float(vector @ query), item, index)
            for item, vectors in held.items()
            for index, vector in enumerate(vectors)
        )
        hits = store.search(query, SPACE, top_k=10)
        assert [(hit.media_id, hit.chunk_index) for hit in hits] == [
            (item, index) for _, item, index in expected[:10]
        ]


def test_copy_reads_only_what_changed(store, new_item, small_blocks, monkeypatch):
    one, other = new_item(), new_item()
    store.replace(one, SPACE, chunks(*[EAST] * 20))
    texts(store)
    read = []
    reader = store._read

    def noted(rows, space):
        read.append(rows.count())
        return reader(rows, space)

    monkeypatch.setattr(store, "_read", noted)
    store.replace(other, SPACE, chunks(NORTH, NORTH))
    assert len(texts(store)) == 22
    store.delete([other])
    assert len(texts(store)) == 20
    assert read == [2, 0]


def test_space_larger_than_the_memory_is_still_searched(store, new_item, small_blocks):
    bounded = OrmVectorStore(store.using, memory_bytes=100)
    one, other = new_item(), new_item()
    store.replace(one, SPACE, chunks(*[EAST] * 20, NORTH))
    store.replace(other, SPACE, chunks(EAST, NORTH))

    def found(searched):
        everywhere = searched.search(NORTH, SPACE, top_k=3)
        return everywhere, searched.search(NORTH, SPACE, top_k=3, media_ids=[other])

    in_the_database = found(bounded)
    assert bounded.memory_bytes == 0
    assert in_the_database == found(store)


def test_least_recently_searched_space_leaves_memory_first(
    store, new_item, small_blocks
):
    spaces = [replace(SPACE, vector_space=name) for name in "abc"]
    for space in spaces:
        store.replace(new_item(), space, chunks(EAST))
    bound = 2 * (matrix.row_bytes(4) + block_bytes(4))
    bounded = OrmVectorStore(store.using, memory_bytes=bound)
    for space in (*spaces, *spaces):
        assert len(texts(bounded, space=space)) == 1
        assert bounded.memory_bytes <= bound


def test_search_whose_moment_is_older_than_the_copy_reads_the_database(store, new_item):
    item = new_item()
    store.replace(item, SPACE, chunks(EAST, text="old"))
    old = store._space_row(SPACE)
    store.replace(item, SPACE, chunks(EAST, text="new"))
    assert texts(store) == ["new 0"]
    assert store._memory.get(old) is None
    ((chunk_id, score),) = store._nearest(EAST, old, 10, None)
    assert score == pytest.approx(1)
    assert store._hits([(chunk_id, score)])[0].text == "new 0"


def test_copy_gives_back_the_memory_of_what_was_deleted(store, new_item, small_blocks):
    items = [new_item() for _ in range(4)]
    for item, size in zip(items, (8, 5, 3, 8), strict=True):
        store.replace(item, SPACE, chunks(*[EAST] * size))
    texts(store)
    store.delete([items[1]])
    assert len(texts(store)) == 19
    least = 18 * matrix.row_bytes(4)
    assert least < store.memory_bytes <= 19 * matrix.row_bytes(4) + 4 * block_bytes(4)
