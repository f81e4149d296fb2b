"""What can happen to a file."""

import multiprocessing
import os
import resource
import sqlite3
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from embeddings.services.cache.row_store import Entry
from embeddings.services.cache.sqlite_store import SqliteStore
from providers.state import StoreUnavailable
from tests.embeddings.services.cache.conftest import PATIENT_FILE

ROW = bytes(1536)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.sqlite3"


@pytest.fixture
def store(path):
    store = opened(path)
    yield store
    store.close()


def opened(path):
    return SqliteStore(path, max_size=1000, ttl_seconds=60, **PATIENT_FILE)


def write(store, *keys):
    entries = {key: Entry(time.time(), ROW) for key in keys}
    store.write(entries, generation=store.generation())


def held(store, *keys):
    return sorted(store.read(keys, generation=store.generation()))


def spoil(path):
    """Overwrite the file and what belongs to it."""
    for file in path.parent.glob("cache.sqlite3*"):
        with file.open("r+b") as raw:
            raw.write(b"spoilt" * 2000)


def test_only_the_owner_may_read_the_file(store, path):
    write(store, b"a")
    for file in path.parent.glob("cache.sqlite3*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_file_that_is_no_database_is_replaced(path):
    path.write_text("not a database" * 100)
    store = opened(path)
    write(store, b"a")
    assert held(store, b"a") == [b"a"]
    store.close()


def test_file_that_breaks_under_way_is_unavailable_once_and_then_replaced(store, path):
    write(store, *(b"%d" % number for number in range(500)))
    store.close()
    store.generation()
    spoil(path)
    with pytest.raises(StoreUnavailable):
        held(store, *(b"%d" % number for number in range(500)))
    write(store, b"a")
    assert held(store, b"a") == [b"a"]


def test_replaced_file_is_a_new_generation(store, path):
    over = store.generation()
    store.close()
    path.write_text("not a database" * 100)
    assert store.generation() != over


def test_process_with_the_old_file_open_goes_over_to_the_new_one(store, path):
    write(store, b"a")
    path.unlink()
    other = opened(path)
    write(other, b"b")
    assert held(store, b"a", b"b") == [b"b"]
    write(store, b"c")
    assert held(other, b"b", b"c") == [b"b", b"c"]
    other.close()


def test_locked_file_is_unavailable_for_writes_and_still_read(path):
    store = SqliteStore(path, max_size=3, ttl_seconds=60, write_busy_seconds=0.05)
    write(store, b"a")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        write(store, b"b")
    assert held(store, b"a") == [b"a"]
    other.close()
    write(store, b"b")
    assert held(store, b"a", b"b") == [b"a", b"b"]
    store.close()


def test_folder_that_cannot_be_is_unavailable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable):
        opened(tmp_path / "file" / "cache.sqlite3").generation()


def write_to_a_full_disk(path, outcome):
    """Write more than this process may, and see what is left."""
    store = opened(path)
    write(store, b"a")
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        write(store, *(b"%d" % number for number in range(500)))
    except StoreUnavailable:
        outcome.send(
            (held(store, b"0", b"a"), store.size(generation=store.generation()))
        )
    else:
        outcome.send("written")


def test_full_disk_is_unavailable_and_what_was_there_is_still_read(path):
    assert in_a_process(write_to_a_full_disk, path) == ([b"a"], 1)


def write_before_and_after_a_fork(path, outcome):
    store = opened(path)
    write(store, b"before")
    child = os.fork()
    if not child:
        write(store, b"child")
        os._exit(0 if held(store, b"before", b"child") == [b"before", b"child"] else 1)
    _, status = os.waitpid(child, 0)
    write(store, b"parent")
    outcome.send((status, held(store, b"before", b"child", b"parent")))


def test_store_that_was_used_before_a_fork_works_on_both_sides(path):
    status, rows = in_a_process(write_before_and_after_a_fork, path)
    assert status == 0
    assert rows == [b"before", b"child", b"parent"]


def in_a_process(target, path):
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=target, args=(path, theirs))
    process.start()
    theirs.close()
    outcome = mine.recv()
    process.join(20)
    return outcome


def test_a_new_file_may_be_opened_by_many_at_once(tmp_path):
    def open_and_write(path):
        store = opened(path)
        together.wait(20)
        key = b"%d" % threading.get_ident()
        write(store, key)
        found = held(store, key)
        store.close()
        return found == [key]

    together = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        for round_ in range(10):
            path = tmp_path / f"{round_}.sqlite3"
            assert all(pool.map(open_and_write, [path] * 8))
