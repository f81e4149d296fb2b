"""The queue with a runtime that does what the test tells it to."""

import contextvars
import os
import sys
import threading
import time

import numpy as np
import pytest

from providers.engine import batcher as batcher_module
from providers.engine.batcher import Batcher
from providers.engine.runtime import Row
from providers.exceptions import (
    Abandoned,
    EngineClosed,
    Overloaded,
    ProviderMalformed,
    ProviderTimeout,
    ProviderUnavailable,
)
from providers.waiting import caller_left
from tests.collector import collector_off, failing
from tests.waiting import poll

LATER = 1000.0


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class FakeRuntime:
    """Answers each row with its length and first id; holds every run until its gate is open."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches = []
        self.wide = []
        self.niceness = []
        self.rested = threading.Semaphore(0)

    def run(self, rows, *, wide=False):
        self.batches.append([len(row) for row in rows])
        self.wide.append(wide)
        self.niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        self.entered.release()
        assert self.gate.wait(20)
        return np.array(
            [[len(row), row.token_ids[0]] for row in rows], dtype=np.float32
        )

    def rest(self):
        self.rested.release()


def row(length, mark=0):
    return Row(np.full(length, mark, dtype=np.int64), "")


@pytest.fixture(autouse=True)
def looks(monkeypatch):
    """Have those who wait look often for what happened to the engine and to their callers."""
    monkeypatch.setattr(batcher_module, "_LOOK_AGAIN_SECONDS", 0.05)


@pytest.fixture
def runtime():
    return FakeRuntime()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def batcher(runtime, clock):
    """One lane, no express lane."""
    yield from closing(runtime, make(runtime, clock, express=False))


@pytest.fixture
def shared(runtime, clock):
    """A bulk lane and the express lane, which takes requests of up to 4 tokens."""
    yield from closing(runtime, make(runtime, clock, small_tokens=4))


@pytest.fixture
def pair(runtime, clock):
    """Two bulk lanes."""
    yield from closing(
        runtime, make(runtime, clock, bulk_lanes=2, express=False, batch_tokens=256)
    )


def make(runtime, clock, **options):
    settings = {"batch_tokens": 16, "small_tokens": 16, "queue_tokens": 100, **options}
    settings = {"processor_clock": lambda: 0.0, **settings}
    return Batcher(runtime, clock=clock, **settings)


def closing(runtime, batcher):
    yield batcher
    runtime.gate.set()
    batcher.close()


class Caller(threading.Thread):
    """Submits in a thread of its own and keeps what comes back."""

    def __init__(self, batcher, rows, deadline=LATER):
        super().__init__(daemon=True)
        self.batcher, self.rows, self.deadline = batcher, rows, deadline
        self.result = self.error = None
        self.start()

    def run(self):
        try:
            self.result = self.batcher.submit(self.rows, deadline=self.deadline)
        except Exception as error:
            self.error = error

    def outcome(self):
        self.join(20)
        assert not self.is_alive()
        return self.result


def queue(batcher, rows, **options):
    """Submit while the engine is held, and return once the request is in the queue."""
    before = batcher.queued_tokens
    caller = Caller(batcher, rows, **options)
    poll(lambda: batcher.queued_tokens != before, what="the request in the queue")
    return caller


def occupy(batcher, runtime, rows=None):
    """Hold the engine in a run until the gate opens."""
    runtime.gate.clear()
    runtime.entered = threading.Semaphore(0)
    caller = Caller(batcher, rows or [row(1)])
    assert runtime.entered.acquire(timeout=20)
    runtime.batches.clear()
    return caller


def test_vectors_come_back_in_input_order(batcher):
    lengths = [5, 1, 9, 3, 9, 2, 7]
    vectors = batcher.submit(
        [row(length, mark) for mark, length in enumerate(lengths)], deadline=LATER
    )
    assert vectors.tolist() == [[length, mark] for mark, length in enumerate(lengths)]
    assert vectors.dtype == np.float32


def test_no_batch_exceeds_the_budget_unless_one_text_does(batcher, runtime):
    batcher.submit(
        [row(length) for length in (30, 8, 8, 8, 5, 5, 4, 1)], deadline=LATER
    )
    assert runtime.batches[0] == [30]
    assert all(max(batch) * len(batch) <= 16 for batch in runtime.batches[1:])


def test_a_short_text_waits_only_for_the_run_under_way(batcher, runtime):
    first = occupy(batcher, runtime)
    bulk = queue(batcher, [row(8) for _ in range(10)])
    single = queue(batcher, [row(2)])
    runtime.gate.set()
    for caller in (first, bulk, single):
        caller.outcome()
    assert [2] in runtime.batches[:2]


def test_many_short_texts_do_not_starve_a_long_request(batcher, runtime):
    first = occupy(batcher, runtime)
    singles = [queue(batcher, [row(4)]) for _ in range(6)]
    bulk = queue(batcher, [row(8) for _ in range(6)])
    singles += [queue(batcher, [row(4)]) for _ in range(4)]
    runtime.gate.set()
    for caller in (first, bulk, *singles):
        caller.outcome()
    assert [8, 8] in runtime.batches[:4]


def test_texts_of_like_length_from_several_requests_share_a_run(batcher, runtime):
    first = occupy(batcher, runtime)
    callers = [queue(batcher, [row(4, mark)]) for mark in range(4)]
    runtime.gate.set()
    first.outcome()
    assert [caller.outcome().tolist() for caller in callers] == [
        [[4, mark]] for mark in range(4)
    ]
    assert runtime.batches == [[4, 4, 4, 4]]


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(batcher, runtime):
    occupy(batcher, runtime)
    queue(batcher, [row(90)])
    with pytest.raises(Overloaded) as refused:
        batcher.submit([row(20)], deadline=LATER)
    assert (refused.value.retry_after_seconds or 0) >= 1
    queue(batcher, [row(10)])  # fills it to the last token
    assert batcher.queued_tokens == 100


def test_an_idle_engine_takes_a_request_larger_than_the_queue(batcher):
    assert len(batcher.submit([row(10) for _ in range(20)], deadline=LATER)) == 20


def test_a_request_past_its_deadline_is_dropped_unrun(batcher, runtime, clock):
    first = occupy(batcher, runtime)
    late = queue(batcher, [row(7)], deadline=5.0)
    clock.now = 6.0
    runtime.gate.set()
    first.outcome()
    late.join(20)
    assert isinstance(late.error, ProviderTimeout)
    assert [7] not in runtime.batches
    assert batcher.queued_tokens == 0


def test_a_waiter_is_let_go_at_its_deadline_though_the_run_goes_on(
    batcher, runtime, clock
):
    runtime.gate.clear()
    caller = Caller(batcher, [row(3)], deadline=0.01)
    assert runtime.entered.acquire(timeout=20)
    clock.now = 1.0
    caller.join(20)
    assert isinstance(caller.error, ProviderTimeout)


def test_a_failing_run_reaches_every_waiter_and_the_engine_lives_on(batcher, runtime):
    first = occupy(batcher, runtime)
    callers = [queue(batcher, [row(4)]) for _ in range(3)]
    cause = RuntimeError("secret input")
    runtime.run = _raising(cause)
    runtime.gate.set()
    first.outcome()
    for caller in callers:
        caller.outcome()
        assert isinstance(caller.error, ProviderUnavailable)
        assert caller.error.__cause__ is cause
        assert "secret" not in caller.error.message
    del runtime.run
    assert len(batcher.submit([row(2)], deadline=LATER)) == 1


def _raising(error):
    def run(rows, *, wide):
        raise error

    return run


@pytest.mark.parametrize("kind", [RuntimeError, ProviderMalformed])
def test_a_failed_run_holds_nothing_once_it_is_handled(batcher, runtime, kind):
    with collector_off() as held:

        def run(rows, *, wide):
            model = held()
            raise kind(f"{type(model).__name__} failed.")

        runtime.run = run
        failing(
            lambda: batcher.submit([row(2)], deadline=LATER),
            (ProviderUnavailable, ProviderMalformed),
        )
        # The engine's thread has ended the run when it takes the next.
        del runtime.run
        batcher.submit([row(2)], deadline=LATER)
        assert held.alive() == 0


def test_an_engine_that_waits_for_work_holds_no_texts(shared):
    with collector_off() as held:

        def submit():
            text = held()
            return shared.submit([Row(row(2).token_ids, text)], deadline=LATER)

        submit()
        ended = time.monotonic() + 20  # its thread has a few steps to go
        while held.alive() and time.monotonic() < ended:
            threading.Event().wait(0.001)
        assert held.alive() == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_engine_thread_is_replaced(batcher, runtime):
    runtime.run = _raising(SystemExit())
    with pytest.raises(ProviderUnavailable):
        batcher.submit([row(2)], deadline=LATER)
    del runtime.run
    assert len(batcher.submit([row(2)], deadline=LATER)) == 1


def test_a_run_that_hangs_makes_the_engine_unhealthy_until_its_thread_is_replaced(
    batcher, runtime, clock
):
    hung = occupy(batcher, runtime)
    assert batcher.healthy()
    clock.now = 61.0
    assert not batcher.healthy()
    hung.join(20)
    assert isinstance(hung.error, ProviderUnavailable)
    held, runtime.gate = runtime.gate, threading.Event()
    runtime.gate.set()
    assert len(batcher.submit([row(2)], deadline=LATER)) == 1
    assert batcher.healthy()
    held.set()


def test_a_run_that_was_given_up_does_not_end_the_one_in_its_place(
    batcher, runtime, clock
):
    others = {*threading.enumerate()}
    hung = occupy(batcher, runtime)
    [stuck] = [t for t in {*threading.enumerate()} - others if t.name == "engine-0"]
    clock.now = 61.0
    assert not batcher.healthy()
    hung.join(20)
    held, runtime.gate = runtime.gate, threading.Event()
    beside = Caller(batcher, [row(2)])
    assert runtime.entered.acquire(timeout=20)
    held.set()
    stuck.join(20)
    clock.now = 62.0
    assert batcher.idle_seconds() == 0
    runtime.gate.set()
    assert len(beside.outcome()) == 1


def test_an_engine_whose_every_thread_hangs_stays_unhealthy(batcher, runtime, clock):
    for _ in range(9):
        occupy(batcher, runtime)
        clock.now += 61.0
        batcher.healthy()
    assert not batcher.healthy()


def test_a_short_text_runs_beside_a_bulk_run(shared, runtime):
    bulk = occupy(shared, runtime, [row(16)])
    short = Caller(shared, [row(2)])
    assert runtime.entered.acquire(timeout=20)
    assert runtime.batches == [[2]]
    runtime.gate.set()
    assert (len(bulk.outcome()), len(short.outcome())) == (1, 1)


def test_bulk_never_takes_the_express_lane(shared, runtime):
    # What is left of the first request would fit there.
    bulk = occupy(shared, runtime, [row(16), row(2)])
    more = queue(shared, [row(8) for _ in range(4)])
    assert not runtime.entered.acquire(timeout=0.05)
    runtime.gate.set()
    assert (len(bulk.outcome()), len(more.outcome())) == (2, 4)


def test_the_last_texts_of_a_bulk_request_are_not_forgotten(shared):
    lengths = [16, 16, 3, 1, 1]
    vectors = shared.submit([row(length) for length in lengths], deadline=LATER)
    assert vectors[:, 0].tolist() == lengths


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness there")
def test_bulk_runs_come_after_short_ones_at_the_scheduler(shared, runtime):
    own = os.getpriority(os.PRIO_PROCESS, 0)
    shared.submit([row(2)], deadline=LATER)
    shared.submit([row(16)], deadline=LATER)
    assert runtime.niceness == [own, max(own, 10)]


def test_a_text_that_has_the_engine_to_itself_may_take_all_cores(pair, runtime):
    pair.submit([row(8)], deadline=LATER)
    held = occupy(pair, runtime)
    beside = Caller(pair, [row(9)])
    assert runtime.entered.acquire(timeout=20)
    runtime.gate.set()
    held.outcome()
    beside.outcome()
    assert runtime.wide == [True, True, False]


def test_one_request_is_shared_out_among_idle_lanes(pair, runtime):
    runtime.batches.clear()
    runtime.gate.clear()
    runtime.entered = threading.Semaphore(0)
    bulk = Caller(pair, [row(64) for _ in range(3)])
    for _ in range(2):
        assert runtime.entered.acquire(timeout=20)
    runtime.gate.set()
    assert len(bulk.outcome()) == 3
    assert runtime.batches[0] == [64]


def test_the_work_of_a_caller_who_left_is_dropped(batcher, runtime):
    first = occupy(batcher, runtime)
    gone = threading.Event()
    token = caller_left.set(gone.is_set)
    try:
        context = contextvars.copy_context()
    finally:
        caller_left.reset(token)
    errors = []

    def leave():
        with pytest.raises(Abandoned) as left:
            batcher.submit([row(7)], deadline=LATER)
        errors.append(left.value)

    waiting = threading.Thread(target=context.run, args=[leave])
    waiting.start()
    gone.set()
    waiting.join(20)
    assert batcher.queued_tokens == 0
    runtime.gate.set()
    first.outcome()
    assert len(errors) == 1
    assert [7] not in runtime.batches


def test_only_an_idle_engine_closes_for_being_idle(batcher, runtime, clock):
    held = occupy(batcher, runtime)
    clock.now = 50.0
    assert batcher.idle_seconds() == 0
    assert not batcher.close_if_idle(10)
    runtime.gate.set()
    held.outcome()
    assert not batcher.close_if_idle(10)
    clock.now = 61.0
    assert batcher.idle_seconds() == 11
    assert batcher.close_if_idle(10)
    with pytest.raises(EngineClosed):
        batcher.submit([row(1)], deadline=LATER)


@pytest.mark.parametrize("shape", [(1, 2), (3, 2), (2,)])
def test_another_number_of_vectors_than_texts_is_an_error(batcher, runtime, shape):
    runtime.run = lambda rows, wide: np.ones(shape, dtype=np.float32)
    with pytest.raises(ProviderMalformed):
        batcher.submit([row(2), row(2)], deadline=LATER)


def test_numbers_that_are_not_finite_are_an_error(batcher, runtime):
    runtime.run = lambda rows, wide: np.full((len(rows), 2), np.nan, dtype=np.float32)
    with pytest.raises(ProviderMalformed):
        batcher.submit([row(2)], deadline=LATER)


def test_closing_fails_what_waits_and_ends_the_threads(batcher, runtime):
    others = set(threading.enumerate())
    first = occupy(batcher, runtime)
    waiting = queue(batcher, [row(5)])
    closing = threading.Thread(target=batcher.close)
    closing.start()
    waiting.join(20)
    assert isinstance(waiting.error, ProviderUnavailable)
    runtime.gate.set()
    closing.join(20)
    first.outcome()
    left = {thread.name for thread in {*threading.enumerate()} - others}
    assert not [name for name in left if name.startswith("engine")]
    with pytest.raises(ProviderUnavailable):
        batcher.submit([row(1)], deadline=LATER)


def test_many_callers_get_their_own_vectors(runtime, clock):
    batcher = make(runtime, clock, batch_tokens=64, bulk_lanes=2, queue_tokens=10_000)
    callers = [
        Caller(batcher, [row(1 + (mark * 7 + k) % 13, mark) for k in range(9)])
        for mark in range(32)
    ]
    for mark, caller in enumerate(callers):
        assert caller.outcome().tolist() == [
            [1 + (mark * 7 + k) % 13, mark] for k in range(9)
        ]
    batcher.close()


def test_a_batch_takes_the_texts_next_in_length_of_any_caller(batcher, runtime):
    first = occupy(batcher, runtime)
    callers = [
        queue(batcher, [row(8, mark), row(4, mark), row(2, mark)]) for mark in range(2)
    ]
    runtime.gate.set()
    for caller in (first, *callers):
        caller.outcome()
    assert [sorted(batch) for batch in runtime.batches] == [[8, 8], [2, 2, 4, 4]]


def test_after_bulk_the_runtime_rests_once(shared, runtime, monkeypatch):
    monkeypatch.setattr(batcher_module, "_REST_AFTER_SECONDS", 0.001)
    shared.submit([row(16)], deadline=LATER)
    assert runtime.rested.acquire(timeout=20)
    shared.submit([row(2)], deadline=LATER)
    assert not runtime.rested.acquire(timeout=0.02)


@pytest.fixture
def at_once(runtime, clock):
    """A bulk lane and the express lane, in a process that ends where a run hangs."""
    hung = []
    made = make(runtime, clock, on_hung=lambda: hung.append(True))
    made.hung = hung
    yield from closing(runtime, made)


def test_a_small_request_to_an_idle_engine_runs_in_its_own_thread(
    at_once, runtime, monkeypatch
):
    threads = []
    run = runtime.run

    def noted(rows, **how):
        threads.append(threading.current_thread())
        return run(rows, **how)

    monkeypatch.setattr(runtime, "run", noted)
    assert at_once.submit([row(3, 7)], deadline=LATER).tolist() == [[3, 7]]
    assert threads == [threading.current_thread()]


def test_what_comes_while_a_thread_runs_its_own_request_goes_to_the_lanes(
    at_once, runtime
):
    runtime.gate.clear()
    first = Caller(at_once, [row(3)])
    assert runtime.entered.acquire(timeout=20)
    others = [Caller(at_once, [row(2, mark)]) for mark in range(4)]
    assert runtime.entered.acquire(timeout=20)
    runtime.gate.set()
    assert first.outcome().tolist() == [[3, 0]]
    assert [other.outcome().tolist() for other in others] == [
        [[2, mark]] for mark in range(4)
    ]


def test_what_is_too_long_for_one_batch_is_left_to_the_lanes(at_once, runtime):
    rows = [row(10, 1), row(2, 2), row(3, 3)]
    for _ in range(20):  # the lanes sleep by then
        found = at_once.submit(rows, deadline=LATER)
        assert found.tolist() == [[10, 1], [2, 2], [3, 3]]
    assert len(runtime.batches) > 20


def test_a_large_request_to_an_idle_engine_is_left_to_the_lanes(at_once, runtime):
    rows = [row(10, mark) for mark in range(4)]
    found = at_once.submit(rows, deadline=LATER)
    assert found.tolist() == [[10, mark] for mark in range(4)]
    assert [] not in runtime.batches


def test_a_hung_thread_that_runs_its_own_request_is_noticed(at_once, runtime, clock):
    runtime.gate.clear()
    Caller(at_once, [row(3)])
    assert runtime.entered.acquire(timeout=20)
    assert at_once.healthy()
    clock.now += 61
    assert not at_once.healthy()
    assert at_once.hung


def test_an_engine_at_work_in_a_caller_s_thread_is_not_idle(at_once, runtime, clock):
    runtime.gate.clear()
    caller = Caller(at_once, [row(3)])
    assert runtime.entered.acquire(timeout=20)
    clock.now += 10
    assert at_once.idle_seconds() == 0
    assert not at_once.close_if_idle(5)
    runtime.gate.set()
    assert caller.outcome().tolist() == [[3, 0]]
