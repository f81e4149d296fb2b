"""Which texts run next, seen in the batches that are cut."""

import numpy as np
import pytest

from providers.engine.queue import Queue, Request, RunCost
from providers.engine.runtime import Row

BUDGET = 16


def row(length):
    return Row(np.zeros(length, dtype=np.int64), "")


@pytest.fixture
def run_cost():
    return RunCost()


@pytest.fixture
def queue(run_cost):
    """Requests of up to four tokens are small."""
    queue = Queue(small_tokens=4)
    queue.run_cost = run_cost
    return queue


@pytest.fixture
def add(queue):
    """Return a function that puts in a request of rows of these lengths, and returns it."""

    def put(*lengths):
        request = Request([row(length) for length in lengths], 0.0, 1000.0)
        queue.add(request)
        return request

    return put


def cut(queue, budget=BUDGET, *, small=True, bulk=True):
    """Return the next batch as (request, lengths) pairs, in the order of their texts in it."""
    batch = {}
    for request, index in queue.next_batch(budget, small=small, bulk=bulk):
        batch.setdefault(request, []).append(len(request.rows[index]))
    return batch


def test_whoever_watches_is_told_each_change_of_what_waits():
    told = []
    queue = Queue(small_tokens=4, note=told.append)
    request = Request([row(8), row(8)], 0.0, 1000.0)
    queue.add(request)
    cut(queue, budget=8)
    queue.remove(request)
    assert told == [16, 8, 0]


def test_stream_of_newcomers_does_not_keep_a_request_waiting_for_ever(queue, add):
    """It would, if a newcomer's virtual time began at nothing rather than at the queue's."""
    bulk = add(*[8] * 6)
    for _ in range(20):
        add(8, 8)
        cut(queue)
    assert not bulk.waiting


def test_request_that_waits_gets_its_turn_however_much_is_left_of_another(queue, add):
    first, second = add(*[8] * 10), add(*[8] * 10)
    turns = [next(iter(cut(queue))) for _ in range(10)]
    assert turns == [first, second] * 5


def test_no_bulk_rides_along_with_a_small_request(queue, add):
    small, bulk = add(2, 2), add(*[2] * 8)
    assert cut(queue) == {small: [2, 2]}
    assert cut(queue) == {bulk: [2] * 8}


def test_small_requests_ride_along_with_bulk(queue, add):
    bulk, small = add(*[2] * 6), add(2, 2)
    assert cut(queue) == {bulk: [2] * 6, small: [2, 2]}


def test_request_of_as_many_tokens_as_a_small_one_may_have_is_small(queue, add):
    assert [add(4).small, add(2, 2).small, add(5).small] == [True, True, False]


@pytest.mark.parametrize(
    ("kind", "taken"), [({"bulk": False}, [[3]]), ({"small": False}, [[5]])]
)
def test_lane_is_given_only_the_kind_it_asks_for(queue, add, kind, taken):
    add(3)
    add(5)
    assert [*cut(queue, **kind).values()] == taken
    assert cut(queue, **kind) == {}


def test_batch_is_padded_to_its_longest_text_and_stays_within_the_budget(queue, add):
    request = add(8, 7, 6, 5)
    assert cut(queue) == {request: [7, 8]}
    assert cut(queue) == {request: [5, 6]}


def test_text_longer_than_the_budget_runs_alone(queue, add):
    request = add(30, 20)
    assert [cut(queue), cut(queue)] == [{request: [30]}, {request: [20]}]


@pytest.mark.parametrize(
    ("fixed", "runs"),
    [
        (1.0, [[30, 30], [21], [20, 20], [7]]),
        (2.5, [[30, 30], [20, 20, 21], [7]]),
        (25.0, [[30, 30], [7, 20, 20, 21]]),
        (60.0, [[7, 20, 20, 21, 30, 30]]),
    ],
)
def test_texts_run_together_where_padding_costs_less_than_another_run(
    queue, add, run_cost, fixed, runs
):
    run_cost.tokens = fixed
    request = add(30, 20, 7, 21, 30, 20)
    assert [cut(queue, 1000) for _ in runs] == [{request: run} for run in runs]
    assert not len(queue)


def test_runs_that_cost_least_are_not_those_that_pad_the_next_text_least(
    queue, add, run_cost
):
    """10, 9 and 8 in one run pad three tokens; a run of the first alone saves two of them and costs three."""
    run_cost.tokens = 3.0
    request = add(10, 9, 8, 8, 8, 8)
    assert cut(queue, 1000) == {request: [9, 10]}
    assert cut(queue, 1000) == {request: [8, 8, 8, 8]}


@pytest.mark.parametrize(
    ("fixed_seconds", "tokens"), [(0.004, 4.0), (0.016, 16.0), (1.0, 64.0), (0.0, 2.0)]
)
def test_cost_of_a_run_is_learned_from_the_last_runs(run_cost, fixed_seconds, tokens):
    for size in (500, 100) * 300:
        run_cost.note(size, 0.1 + 0.003 * size)  # of another machine
    for size in (16, 100, 500, 64) * 300:
        run_cost.note(size, fixed_seconds + 0.001 * size)
    assert run_cost.tokens == pytest.approx(tokens, rel=0.01)


def test_runs_of_about_one_size_say_nothing_of_what_a_run_costs(run_cost):
    before = run_cost.tokens
    for size, seconds in [(64, 0.004)] * 99 + [(65, 0.005)]:
        run_cost.note(size, seconds)
    assert run_cost.tokens == before


def test_texts_longer_than_that_of_the_request_whose_turn_it_is_wait(queue, add):
    first, second = add(5, 5), add(8, 5)
    assert cut(queue) == {first: [5, 5], second: [5]}
    assert cut(queue) == {second: [8]}


def test_of_like_lengths_those_of_the_request_whose_turn_it_is_go_first(queue, add):
    first, second = add(5, 5), add(5, 5)
    assert cut(queue) == {first: [5, 5], second: [5]}


def test_queue_counts_what_no_batch_has_taken(queue, add):
    request = add(8, 8, 4)
    assert queue.tokens == 20
    cut(queue)
    assert (queue.tokens, len(queue)) == (4, 1)
    queue.remove(request)
    assert (queue.tokens, len(queue)) == (0, 0)
    queue.remove(request)
    assert queue.tokens == 0


def test_one_with_long_texts_has_its_turn_less_often_by_the_square_of_their_length():
    queue = Queue(small_tokens=4, square_tokens=8)
    turns = []
    for length in (8, 32):
        rows = [row(length)] * (128 // length)
        queue.add(Request(rows, 0.0, 1000.0))
    while len(queue.requests()) == 2:
        [(request, index)] = queue.next_batch(8, small=True, bulk=True)
        turns.append(len(request.rows[index]))
    # A text of 8 tokens is as much work as 16 short ones, one of 32 as much as 160.
    assert sorted(turns[:11]) == [8] * 10 + [32]


def test_padding_counts_as_tokens_that_were_run(queue, add):
    padded = add(8, 4, 2)
    assert cut(queue) == {padded: [4, 8]}
    assert padded.virtual_time == 16
