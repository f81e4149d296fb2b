"""One suite for every store of rows, each test against real files and a real Redis."""

import itertools
import multiprocessing
import secrets
import time

import pytest

from embeddings.services.cache.row_store import CLOCK_SKEW_SECONDS, Entry
from tests.embeddings.services.cache.conftest import (
    MAX_SIZE,
    STORES,
    TTL_SECONDS,
    opened,
)

pytestmark = pytest.mark.parametrize("address", STORES, indirect=True)

ROW = bytes(range(8))


def write(store, clock, *keys, row=ROW, **options):
    entries = {key: Entry(clock(), row) for key in keys}
    store.write(entries, generation=store.generation(), **options)


def held(store, *keys):
    return sorted(store.read(keys, generation=store.generation()))


def test_what_was_written_is_read_with_the_time_it_was_stored(store, clock):
    write(store, clock, b"a", row=b"\0\1\2\3")
    found = store.read([b"a", b"b"], generation=store.generation())
    assert found == {b"a": Entry(clock(), b"\0\1\2\3")}


def test_another_process_s_rows_are_found(store, clock, address):
    write(store, clock, b"a")
    other = opened(address, clock=clock)
    assert held(other, b"a") == [b"a"]
    other.close()


def test_thousands_of_keys_are_read_at_once(address, clock):
    store = opened(address, clock=clock, max_size=5000)
    keys = [secrets.token_bytes(32) for _ in range(2048)]
    write(store, clock, *keys[:2000])
    assert set(held(store, *keys)) == set(keys[:2000])
    store.close()


def test_keys_may_hold_any_byte(store, clock):
    key = bytes(range(32))
    write(store, clock, key)
    assert held(store, key) == [key]


def test_rows_expire(store, clock):
    write(store, clock, b"a")
    clock.now += TTL_SECONDS
    assert held(store, b"a") == [b"a"]
    clock.now += 0.1
    assert held(store, b"a") == []


def test_expired_rows_do_not_count_and_are_dropped_by_the_next_write(store, clock):
    write(store, clock, b"a", b"b")
    clock.now += TTL_SECONDS + 1
    assert store.size(generation=store.generation()) == 0
    write(store, clock, b"c")
    clock.now -= TTL_SECONDS + 1
    assert held(store, b"a", b"b") == []


def test_expired_row_is_renewed(store, clock):
    write(store, clock, b"a")
    clock.now += TTL_SECONDS + 1
    write(store, clock, b"a", row=b"again")
    found = store.read([b"a"], generation=store.generation())
    assert found == {b"a": Entry(clock(), b"again")}
    assert store.size(generation=store.generation()) == 1


def test_row_written_twice_counts_once_and_the_later_one_stays(store, clock):
    write(store, clock, b"a")
    write(store, clock, b"a", row=b"again")
    assert store.read([b"a"], generation=store.generation())[b"a"].row == b"again"
    assert store.size(generation=store.generation()) == 1


def test_rows_from_far_ahead_are_not_believed(store, clock):
    clock.now += CLOCK_SKEW_SECONDS + 1
    write(store, clock, b"a", b"b", b"c")
    clock.now -= CLOCK_SKEW_SECONDS + 1
    assert held(store, b"a") == []
    write(store, clock, b"d")
    assert held(store, b"d") == [b"d"]
    assert store.size(generation=store.generation()) == 1


def test_rows_of_a_clock_a_little_ahead_are_taken(store, clock):
    clock.now += CLOCK_SKEW_SECONDS / 2
    write(store, clock, b"a")
    clock.now -= CLOCK_SKEW_SECONDS / 2
    assert held(store, b"a") == [b"a"]


def test_oldest_rows_go_when_there_are_too_many(store, clock):
    for key in (b"a", b"b", b"c", b"d"):
        write(store, clock, key)
        clock.now += 1
    assert held(store, b"a", b"b", b"c", b"d") == [b"b", b"c", b"d"]
    assert store.size(generation=store.generation()) == MAX_SIZE


def test_rows_that_were_used_stay(store, clock):
    for key in (b"a", b"b", b"c"):
        write(store, clock, key)
        clock.now += 1
    write(store, clock, b"d", used=[b"a"])
    assert held(store, b"a", b"b", b"c", b"d") == [b"a", b"c", b"d"]


def test_use_of_a_row_that_is_gone_brings_nothing_back(store, clock):
    write(store, clock, b"a", used=[b"z"])
    assert store.size(generation=store.generation()) == 1
    assert held(store, b"z") == []


def test_full_store_frees_space_for_a_while(address, clock):
    store = opened(address, clock=clock, max_size=100)
    write(store, clock, *(b"%d" % number for number in range(101)))
    assert store.size(generation=store.generation()) == 95
    store.close()


def test_more_rows_than_fit_may_be_written_at_once(store, clock):
    write(store, clock, *(b"%d" % number for number in range(300)))
    assert store.size(generation=store.generation()) == MAX_SIZE


def test_rows_are_forgotten(store, clock):
    write(store, clock, b"a", b"b")
    store.forget([b"a", b"z"], generation=store.generation())
    assert held(store, b"a", b"b") == [b"b"]
    assert store.size(generation=store.generation()) == 1


def test_generation_is_the_same_for_all_processes_and_outlives_them(
    store, clock, address
):
    generation = store.generation()
    store.close()
    other = opened(address, clock=clock)
    assert other.generation() == store.generation() == generation
    other.close()


def test_clear_drops_all_rows_says_how_many_and_begins_a_generation(store, clock):
    write(store, clock, b"a", b"b")
    over = store.generation()
    cleared = store.clear()
    assert cleared.rows == 2
    assert cleared.generation == store.generation() != over
    assert held(store, b"a", b"b") == []
    assert store.size(generation=store.generation()) == 0


def test_clear_counts_no_expired_rows(store, clock):
    write(store, clock, b"a")
    clock.now += TTL_SECONDS + 1
    assert store.clear().rows == 0


def test_empty_store_may_be_cleared(store):
    assert store.clear().rows == 0


def test_clear_wins_against_a_write_under_way(store, clock):
    over = store.generation()
    store.clear()
    store.write({b"a": Entry(clock(), ROW)}, generation=over)
    assert held(store, b"a") == []
    assert store.size(generation=store.generation()) == 0


def test_generation_that_is_over_reads_nothing(store, clock):
    over = store.generation()
    write(store, clock, b"a")
    store.clear()
    write(store, clock, b"a")
    assert store.read([b"a"], generation=over) == {}


WRITERS, KEYS_EACH, FULL = 3, 64, 150


def write_until_killed(address, number, ready):
    """Write rows that tell who wrote them, in a process of its own, and read them back."""
    store = opened(address, max_size=FULL)
    generation = store.generation()
    row = bytes([number]) * 1536
    keys = [b"%d:%d" % (number, key) for key in range(KEYS_EACH)]
    for round_ in itertools.count():
        now = time.time()
        entries = {key: Entry(now, row) for key in keys}
        store.write(entries, used=keys[:5], generation=generation)
        found = store.read(keys, generation=generation)
        assert {entry.row for entry in found.values()} <= {row}
        if round_ == 20:
            ready.send(True)
        # SQLite's lock has no queue: writers that never pause can keep one out for a minute.
        time.sleep(0.005)


@pytest.mark.e2e
def test_writers_killed_amid_writes_leave_a_good_store(address):
    spawn = multiprocessing.get_context("spawn")
    writers, readies = [], []
    for number in range(WRITERS):
        ready, their_end = spawn.Pipe(duplex=False)
        writers.append(
            spawn.Process(target=write_until_killed, args=(address, number, their_end))
        )
        writers[-1].start()
        their_end.close()
        readies.append(ready)
    for ready in readies:
        assert ready.recv()  # raises EOFError if the writer has died
    for writer in writers:
        writer.kill()
        writer.join(20)
    store = opened(address, max_size=FULL)
    generation = store.generation()
    everything = [b"%d:%d" % (w, k) for w in range(WRITERS) for k in range(KEYS_EACH)]
    found = store.read(everything, generation=generation)
    assert found
    for key, entry in found.items():
        assert entry.row == bytes([int(key[:1])]) * 1536
    new = {b"new": Entry(time.time(), ROW)}
    store.write(new, generation=generation)
    assert store.read([b"new"], generation=generation) == new
    assert store.size(generation=generation) <= FULL
    store.close()
