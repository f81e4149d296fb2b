"""The capacity model against what can be worked out by hand."""

import pytest

from benchmarks.simulation import Costs, Node


def test_one_web_process_answers_what_its_work_allows():
    node = Node(Costs(web=0.002), cores=4, web=1, clients=8)
    assert node.run(5).per_second == pytest.approx(500, rel=0.01)


def test_more_processes_than_cores_answer_what_the_cores_allow():
    node = Node(Costs(web=0.002), cores=2, web=4, clients=8)
    assert node.run(5).per_second == pytest.approx(1000, rel=0.01)


def test_the_engine_is_the_limit_where_it_takes_most():
    costs = Costs(web=0.0001, run=0.0, text=0.01)
    node = Node(costs, cores=2, web=2, clients=16)
    assert node.run(5).per_second == pytest.approx(2 / 0.0101, rel=0.03)


def test_a_run_costs_less_for_many_texts_than_for_each():
    costs = Costs(web=0.0001, run=0.01, text=0.001)
    alone = Node(costs, cores=1, web=1, clients=1).run(5)
    many = Node(costs, cores=1, web=1, clients=32).run(5)
    assert alone.per_second == pytest.approx(1 / 0.0111, rel=0.02)
    assert many.per_second > 3 * alone.per_second


def test_the_wait_grows_with_the_load():
    costs = Costs(web=0.002)
    waits = [
        Node(costs, cores=1, web=1, rate=rate).run(60).p99 for rate in (50, 250, 450)
    ]
    assert waits == sorted(waits)
    # A single server that takes the same for each, at 0.9 of its capacity: the mean wait is 4.5 times that.
    assert waits[-1] > 5 * waits[0]
