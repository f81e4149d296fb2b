"""The copies that all processes of a server share: mapped by each, exact, bounded together, and never a wrong hit."""

import mmap
import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import numpy as np
import pytest
from django.db import connections

from media_jobs.models import MediaItem, VectorSpace
from media_jobs.vector_store import matrix, orm
from media_jobs.vector_store.coded import block_bytes
from media_jobs.vector_store.orm import OrmVectorStore
from media_jobs.vector_store.shared import SharedMatrices
from media_jobs.vector_store.space_files import locked
from providers.state import server_folder as server_folder_module
from providers.state.server_folder import ServerFolder
from tests.media_jobs.vector_store.conftest import SPACE, chunks, unit
from tests.waiting import poll

EAST, NORTH = unit(1, 0, 0, 0), unit(0, 1, 0, 0)


def file_bytes(*rows):
    """Return what the files of blocks of so many rows take."""
    return sum(count * (matrix.row_bytes(4) - 1) + block_bytes(4) for count in rows)


fork = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """The folder of the server whose processes the stores are."""
    monkeypatch.setattr(server_folder_module, "_of_server", [])
    folder = ServerFolder(tmp_path)
    yield folder.path
    folder.close()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Cut matrices into blocks of a few rows, so that few rows make many."""
    for module in (matrix, orm):
        monkeypatch.setattr(module, "BLOCK_ROWS", 8)
    monkeypatch.setattr(orm, "FEW_CHUNKS", 0)


@pytest.fixture
def alone():
    """What a process knows that is in no server."""

    def store(using):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server_folder_module, "_of_server", [])
            return OrmVectorStore(using)

    return store


@pytest.fixture
def store(sqlite_store):
    return Noting(sqlite_store.using)


class Noting(OrmVectorStore):
    """A store that notes how many rows it reads of the database. Each is a process of its own, for all it knows."""

    def __init__(self, using, *, max_bytes=2**20, **options):
        super().__init__(using, memory_bytes=max_bytes)
        self.read = []
        assert isinstance(self._memory, SharedMatrices)
        self.shared = self._memory
        if options:
            self.shared = self._memory = SharedMatrices(
                self.shared._folder,
                max_bytes,
                database=self.shared._database,
                **options,
            )

    def _read(self, rows, space):
        for part in super()._read(rows, space):
            self.read.append(len(part[0]))
            yield part


class Clock:
    """Nanoseconds that pass when the test says so."""

    def __init__(self):
        self.now = time.time_ns()

    def __call__(self):
        self.now += 1
        return self.now


def texts(store, query=EAST, space=SPACE, **options):
    return [hit.text for hit in store.search(query, space, top_k=100, **options)]


def newest(store):
    """Return the matrix that the store holds after a search."""
    texts(store)
    space = store._space_row(SPACE)
    assert space is not None
    held = store.shared.get(space)
    assert held is not None
    return held


def files_of(folder):
    """Return the names in the one space's folder."""
    (lock,) = (folder / "search").glob("*/lock")
    return {path.name: path for path in lock.parent.iterdir()}


def blocks_of(folder):
    return {
        name: path
        for name, path in files_of(folder).items()
        if name not in ("lock", "manifest")
    }


def is_mapped(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, memoryview) and isinstance(array.obj, mmap.mmap)


def put(path, content):
    """Put another file in the place of one that may be mapped."""
    other = path.with_name("other")
    other.write_bytes(content)
    other.replace(path)


@contextmanager
def forked(*works):
    """Run each in a process of its own, as the server's are."""
    connections.close_all()
    processes = [fork.Process(target=in_child, args=[work]) for work in works]
    for process in processes:
        process.start()
    yield processes
    for process in processes:
        process.join(60)


def in_child(work):
    work()
    connections.close_all()


def test_one_process_reads_a_space_and_all_map_it(store, new_item, folder):
    store.replace(new_item(), SPACE, chunks(*[EAST] * 20))
    assert len(texts(store)) == 20
    other = Noting(store.using)
    assert texts(other) == texts(store)
    assert (sum(store.read), other.read) == (20, [])
    for one in (store, other):
        held = newest(one)
        assert {block.file for block in held.blocks} == set(blocks_of(folder))
        assert all(is_mapped(block.vectors.codes) for block in held.blocks)
    assert store.memory_bytes == other.memory_bytes == file_bytes(8, 8, 4)


def test_a_change_is_read_by_one_process_and_seen_by_all_at_once(store, new_item):
    one, two = new_item(), new_item()
    other = Noting(store.using)
    store.replace(one, SPACE, chunks(*[EAST] * 20, text="one"))
    assert texts(store) == texts(other)
    store.read.clear()
    before = newest(other).blocks[0]
    other.replace(two, SPACE, chunks(EAST, EAST, text="two"))
    assert set(texts(store)) == set(texts(other)) > {"two 0", "two 1"}
    assert newest(other).blocks[0].vectors is before.vectors
    store.delete([one])
    assert texts(other) == texts(store) == ["two 0", "two 1"]
    assert (store.read, other.read) == ([2], [])


def test_copies_stay_exact_whoever_changes_and_whoever_searches(
    store, new_item, alone, folder
):
    random = np.random.default_rng(11)
    stores = [store, Noting(store.using), Noting(store.using)]
    judge = alone(store.using)
    items = [new_item() for _ in range(12)]
    for _ in range(60):
        item = int(random.choice(items))
        if random.random() < 0.25:
            judge.delete([item])
        else:
            vectors = random.normal(size=(random.integers(1, 6), 4))
            judge.replace(item, SPACE, chunks(*[unit(*one) for one in vectors]))
        query = unit(*random.normal(size=4))
        searching = stores[random.integers(3)]
        among = None if random.random() < 0.5 else items[:6]
        found = searching.search(query, SPACE, top_k=10, media_ids=among)
        assert found == judge.search(query, SPACE, top_k=10, media_ids=among)
    named = {block.file for block in newest(store).blocks}
    assert set(blocks_of(folder)) == named


def test_processes_at_once_see_each_their_own_change_whole(store, new_item, alone):
    items = [new_item() for _ in range(3)]

    def work(item):
        def run():
            own = OrmVectorStore(store.using, memory_bytes=2**20)
            for turn in range(15):
                text = f"item {item} turn {turn},"
                own.replace(item, SPACE, chunks(*[EAST] * (1 + turn % 5), text=text))
                found = [hit for hit in texts(own) if hit.startswith(f"item {item} ")]
                assert found == [f"{text} {index}" for index in range(1 + turn % 5)]

        return run

    with forked(*map(work, items)) as processes:
        pass
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert texts(store) == texts(alone(store.using))


def test_a_process_that_is_killed_at_work_leaves_neither_lock_nor_file(
    store, new_item, folder
):
    store.replace(new_item(), SPACE, chunks(*[EAST] * 30))
    at_work = folder / "at-work"

    class Hanging(OrmVectorStore):
        def _read(self, rows, space):
            for part in super()._read(rows, space):
                yield part
                if len(blocks_of(folder)) > 1:
                    at_work.touch()
                    signal.pause()

    with forked(lambda: texts(Hanging(store.using))) as (process,):
        poll(at_work.exists, what="a process at work")
        left = set(blocks_of(folder))
        os.kill(process.pid, signal.SIGKILL)
    assert len(texts(store)) == 30
    assert left.isdisjoint(blocks_of(folder))
    assert store.shared.shared_bytes == file_bytes(8, 8, 8, 6)


def test_a_process_that_hangs_at_work_does_not_stop_others(store, new_item, folder):
    item = new_item()
    store.replace(item, SPACE, chunks(EAST, text="old"))
    one, two = (Noting(store.using, lock_seconds=0.0) for _ in range(2))
    assert texts(one) == texts(two) == ["old 0"]
    with locked(files_of(folder)["lock"].parent, 0):
        store.replace(item, SPACE, chunks(EAST, text="new"))
        assert texts(one) == texts(two) == ["new 0"]
    assert one.memory_bytes > file_bytes(1)
    store.replace(item, SPACE, chunks(EAST, text="newer"))
    assert texts(one) == texts(two) == ["newer 0"]
    assert one.memory_bytes == two.memory_bytes == file_bytes(1)


@pytest.mark.parametrize(
    ("rows", "limit"),
    [
        pytest.param(20, 100, id="for anything"),
        pytest.param(50, file_bytes(8), id="for the manifest"),
        pytest.param(4, file_bytes(4) - 1, id="for the block"),
    ],
)
def test_a_disk_too_full_costs_a_copy_of_ones_own_and_no_hit(
    store, new_item, folder, rows, limit
):
    one, two = new_item(), new_item()
    store.replace(one, SPACE, chunks(*[EAST] * rows, text="one"))
    other = Noting(store.using)
    texts(store)
    store.replace(two, SPACE, chunks(*[EAST] * rows, text="two"))
    with no_file_larger_than(limit):
        assert len(texts(store)) == 2 * rows
        assert len(texts(store)) == 2 * rows
        assert len(texts(other)) == 2 * rows
    assert (sum(store.read), sum(other.read)) == (2 * rows, rows)
    assert store.memory_bytes > file_bytes(2 * rows)
    store.delete([one])
    assert texts(store) == texts(other) == [f"two {index}" for index in range(rows)]
    third = Noting(store.using)
    assert texts(third) == texts(store)
    assert [sum(one.read) for one in (store, other, third)] == [2 * rows, rows, 0]
    assert store.memory_bytes == other.memory_bytes == store.shared.shared_bytes
    assert {block.file for block in newest(store).blocks} == set(blocks_of(folder))


@contextmanager
def no_file_larger_than(size):
    """Have the kernel refuse to write beyond, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_that_vanished_is_not_missed_nor_made_again(store, new_item, folder):
    one, two = new_item(), new_item()
    store.replace(one, SPACE, chunks(*[EAST] * 20))
    texts(store)
    shutil.rmtree(folder)
    assert len(texts(store)) == 20
    store.replace(two, SPACE, chunks(NORTH))
    assert len(texts(store)) == 21
    assert store.memory_bytes == 21 * matrix.row_bytes(4)
    assert not folder.exists()


def shorter(content):
    return content[: len(content) // 2]


def another(content):
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


def longer(content):
    return content + b"\0"


def empty(content):
    return b""


def dead(content):
    """Say of the first rows that they do not count."""
    return content.replace(b'"/w=="', b'"AA=="', 1)


@pytest.mark.parametrize(
    ("which", "broken"),
    [
        *(("block", how) for how in (shorter, another, longer, empty)),
        *(("manifest", how) for how in (shorter, another, longer, empty, dead)),
    ],
)
def test_a_broken_file_is_not_searched(store, new_item, folder, which, broken):
    store.replace(new_item(), SPACE, chunks(*[EAST] * 10, NORTH))
    expected = store.search(NORTH, SPACE, top_k=20)
    files = blocks_of(folder) if which == "block" else files_of(folder)
    path = next(iter(files.values())) if which == "block" else files["manifest"]
    put(path, broken(path.read_bytes()))
    other = Noting(store.using)
    assert other.search(NORTH, SPACE, top_k=20) == expected
    assert sum(other.read) == 11
    assert store.search(NORTH, SPACE, top_k=20) == expected
    assert len(blocks_of(folder)) == len(newest(store).blocks)


def test_a_removed_file_is_made_again(store, new_item, folder):
    store.replace(new_item(), SPACE, chunks(*[EAST] * 20))
    expected = texts(store)
    next(iter(blocks_of(folder).values())).unlink()
    other = Noting(store.using)
    assert texts(other) == expected == texts(store)
    third = Noting(store.using)
    assert texts(third) == expected
    assert third.read == []


@pytest.fixture
def other_alias(new_database, tmp_path_factory, emptied):
    path = tmp_path_factory.mktemp("others") / "db.sqlite3"
    options = connections["default"].settings_dict["OPTIONS"]
    alias = new_database("vectors_others", NAME=str(path), OPTIONS=options)
    with emptied(alias):
        yield alias


def test_two_databases_whose_rows_have_equal_ids_never_meet(store, other_alias):
    stores = {"mine": store, "theirs": Noting(other_alias)}
    for text, one in stores.items():
        item = MediaItem(pk=10**6, title="A title")
        item.save(using=one.using)
        row = VectorSpace(pk=10**6, vector_space=SPACE.vector_space, dimensions=4)
        row.save(using=one.using)
        one.replace(item.pk, SPACE, chunks(EAST, text=text))
        VectorSpace.objects.using(one.using).update(version=7)
    assert texts(stores["mine"]) == ["mine 0"]
    assert texts(stores["theirs"]) == ["theirs 0"]


def test_least_recently_searched_space_goes_first_whoever_searched_it(store, new_item):
    clock = Clock()
    bound = file_bytes(1, 1)
    one, two = (Noting(store.using, max_bytes=bound, clock_ns=clock) for _ in range(2))
    a, b, c = (replace(SPACE, vector_space=name) for name in "abc")
    for space in (a, b, c):
        store.replace(new_item(), space, chunks(EAST))
    for searching, space in ((one, a), (two, a), (one, b), (two, a), (one, c)):
        assert len(texts(searching, space=space)) == 1
        assert one.shared.shared_bytes <= bound
    one.read.clear()
    assert len(texts(one, space=a)) == 1
    assert one.read == []
    assert len(texts(one, space=b)) == 1
    assert one.read == [1]


def test_a_space_that_outgrew_the_bound_is_read_at_every_search(store, new_item):
    bounded = Noting(store.using, max_bytes=10 * matrix.row_bytes(4))
    bounded.replace(new_item(), SPACE, chunks(*[EAST] * 10))
    assert len(texts(bounded)) == 10
    assert bounded.memory_bytes == file_bytes(8, 2)
    bounded.replace(new_item(), SPACE, chunks(EAST))
    for _ in range(2):
        bounded.read.clear()
        assert len(texts(bounded)) == 11
        assert sum(bounded.read) == 11
    assert bounded.memory_bytes == 0


def test_a_database_that_was_put_back_is_copied_from_the_beginning(
    store, new_item, tmp_path
):
    clock = Clock()
    one, two = (Noting(store.using, clock_ns=clock) for _ in range(2))
    item, other = new_item(), new_item()
    one.replace(item, SPACE, chunks(EAST, text="old"))
    backup = tmp_path / "backup.sqlite3"
    path = connections[store.using].settings_dict["NAME"]
    copy(path, backup)
    one.replace(item, SPACE, chunks(EAST, text="new"))
    assert texts(one) == texts(two) == ["new 0"]
    copy(backup, path)
    assert texts(one) == ["old 0"]  # read, as an older moment is
    clock.now += 61 * 10**9
    assert texts(two) == ["old 0"]
    # The version is now what it was for "new".
    one.replace(other, SPACE, chunks(EAST, text="other"))
    assert texts(one) == texts(two) == ["old 0", "other 0"]


def copy(source, target):
    with (
        closing(sqlite3.connect(source)) as here,
        closing(sqlite3.connect(target)) as there,
    ):
        here.backup(there)
