"""What only one store does: its own clock, its way to forget, its way to fail."""

import contextlib
import itertools
import multiprocessing
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from django.db import connections

from embeddings.access.limiter.postgres_buckets import TABLE, PostgresBuckets
from embeddings.access.limiter.redis_buckets import PREFIX, RedisBuckets
from embeddings.access.limiter.sqlite_buckets import SqliteBuckets
from providers.state import StoreUnavailable
from providers.state.database import waits
from tests.embeddings.access.limiter.conftest import SECOND

MOVE = {"cost": SECOND, "limit": 10 * SECOND, "ceiling": 10 * SECOND}
DAY = 24 * 3600 * SECOND


def test_redis_goes_by_its_own_clock(redis_server):
    store = RedisBuckets(redis_server.url)
    assert store.move("clockless", **MOVE).lag == SECOND
    second = store.move("clockless", **MOVE)
    assert SECOND < second.lag <= 2 * SECOND
    store.close()


def test_postgres_goes_by_its_own_clock(postgres_alias):
    store = PostgresBuckets(postgres_alias)
    assert 0 < store.move("clockless", **MOVE).lag <= SECOND
    assert (
        store.move("clockless", **{**MOVE, "cost": DAY, "limit": 2 * DAY}).lag > SECOND
    )


def test_redis_forgets_a_bucket_once_it_is_full(redis_store, redis_server):
    redis_store.move("someone", **MOVE)
    with redis.Redis.from_url(redis_server.url) as client:
        assert 0 < client.pttl(PREFIX + "someone") <= 61_000


def test_sqlite_and_postgres_drop_rows_of_full_buckets(
    sqlite_store, postgres_store, tmp_path, clock
):
    for store in (sqlite_store, postgres_store):
        store.move("someone", **MOVE)
    clock.turn(1)
    for store in (sqlite_store, postgres_store):
        store.forget_full()
    with sqlite3.connect(tmp_path / "limiter.sqlite3") as file:
        assert file.execute("SELECT count(*) FROM bucket").fetchone() == (0,)
    file.close()
    with connections["buckets"].cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {TABLE}")
        assert cursor.fetchone() == (0,)


def test_stuck_file_is_unavailable(tmp_path, clock):
    path = tmp_path / "limiter.sqlite3"
    store = SqliteBuckets(path, clock=clock, busy_seconds=0.01)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable):
        store.move("someone", **MOVE)
    other.close()
    assert store.move("someone", **MOVE).allowed
    store.close()


def test_file_that_is_no_database_is_replaced(tmp_path):
    path = tmp_path / "limiter.sqlite3"
    path.write_text("not a database" * 100)
    store = SqliteBuckets(path)
    assert store.move("someone", **MOVE).allowed
    store.close()


def test_file_that_is_broken_while_it_is_open_is_replaced(tmp_path, clock):
    path = tmp_path / "limiter.sqlite3"
    store, other = SqliteBuckets(path, clock=clock), SqliteBuckets(path, clock=clock)
    for one in (store, other):
        assert one.move("someone", **MOVE).allowed
    path.write_bytes(b"garbage" * 10_000)
    for one in (store, other, store, other):
        with contextlib.suppress(StoreUnavailable):  # the first may only find out
            one.move("someone", **MOVE)
    assert store.move("someone", **MOVE).lag > MOVE["cost"]
    for one in (store, other):
        one.close()


def test_a_server_does_not_make_a_data_folder_that_was_moved_away(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(waits, "serving", True)
    store = SqliteBuckets(tmp_path / "data" / "limiter.sqlite3")
    with pytest.raises(StoreUnavailable):
        store.move("someone", **MOVE)
    assert not (tmp_path / "data").exists()


def test_absent_redis_is_unavailable(tmp_path):
    store = RedisBuckets(f"unix://{tmp_path / 'nobody'}")
    with pytest.raises(StoreUnavailable):
        store.move("someone", **MOVE)


def test_postgres_without_its_table_is_unavailable(postgres_alias):
    with connections[postgres_alias].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {TABLE} RENAME TO elsewhere")
    try:
        with pytest.raises(StoreUnavailable):
            PostgresBuckets(postgres_alias).move("someone", **MOVE)
    finally:
        with connections[postgres_alias].cursor() as cursor:
            cursor.execute(f"ALTER TABLE elsewhere RENAME TO {TABLE}")


def test_a_new_file_may_be_opened_by_many_at_once(tmp_path):
    def open_and_ask(path):
        store = SqliteBuckets(path)
        together.wait(20)
        moved = store.move("someone", **MOVE)
        store.close()
        return moved.allowed

    together = threading.Barrier(12)
    with ThreadPoolExecutor(12) as pool:
        for round_ in range(40):
            path = tmp_path / f"{round_}.sqlite3"
            assert any(pool.map(open_and_ask, [path] * 12))


def test_who_waited_for_the_file_gives_back_nothing_that_others_took(tmp_path):
    """It read the clock before it waited, so to it the bucket looks fuller than it may be."""
    now = 1_000 * SECOND
    before_and_after_the_wait = itertools.chain(
        [now - SECOND // 2], itertools.repeat(now)
    )
    prompt = SqliteBuckets(tmp_path / "limiter.sqlite3", clock=lambda: now)
    late = SqliteBuckets(
        tmp_path / "limiter.sqlite3", clock=lambda: next(before_and_after_the_wait)
    )
    asked = [prompt.move("someone", **SHARED).allowed for _ in range(BURST + 1)]
    assert asked == [True] * BURST + [False]
    assert not late.move("someone", **SHARED).allowed
    assert not prompt.move("someone", **SHARED).allowed


PROCESSES, CALLERS, ROUNDS = 6, 50, 100
BURST, A_SECOND = 10, 10
SHARED = {
    "cost": SECOND // A_SECOND,
    "limit": BURST * SECOND // A_SECOND,
    "ceiling": BURST * SECOND // A_SECOND,
}


def ask_for_all(path, start, answers):
    """Ask for every caller, round after round, from a process of its own."""
    # Patient: six processes that do nothing else can keep one from the file for over a second.
    store = SqliteBuckets(path, busy_seconds=60)
    allowed = dict.fromkeys(range(CALLERS), 0)
    start.wait(60)
    began = time.time()
    for _ in range(ROUNDS):
        for caller in allowed:
            allowed[caller] += store.move(f"caller:{caller}", **SHARED).allowed
    answers.put((began, time.time(), allowed))


@pytest.mark.e2e
def test_six_processes_and_fifty_callers_at_ten_times_the_limit_stay_within_the_bound(
    tmp_path,
):
    """Each caller asks 600 times within seconds, where burst and rate allow 10 and ten a second."""
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Barrier(PROCESSES), spawn.Queue()
    path = tmp_path / "limiter.sqlite3"
    workers = [
        spawn.Process(target=ask_for_all, args=(path, start, answers))
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    outcomes = [answers.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
    took = max(end for _, end, _ in outcomes) - min(began for began, _, _ in outcomes)
    for caller in range(CALLERS):
        together = sum(allowed[caller] for _, _, allowed in outcomes)
        assert BURST <= together <= BURST + A_SECOND * took + 1
