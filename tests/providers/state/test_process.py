"""A process makes its parts itself, once, and closes them."""

import multiprocessing
import os
import threading

import pytest

from providers.state import process
from providers.state.process import at_end, owned

closed = []


class Part:
    def __init__(self, name):
        self.name = name

    def close(self):
        closed.append(self.name)


@owned
def first():
    return Part("first")


@owned
def second():
    return Part("second")


@owned
def plain():
    return object()


@pytest.fixture(autouse=True)
def _new_process():
    closed.clear()
    process.renew()
    yield
    process.renew()


def test_a_part_is_made_once_however_many_threads_ask():
    made = []

    @owned
    def slow():
        made.append(1)
        return object()

    found = []
    threads = [threading.Thread(target=lambda: found.append(slow())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == len(made) == 1


def test_a_part_may_ask_for_another():
    @owned
    def outer():
        return first()

    assert outer() is first()


def test_parts_are_closed_the_latest_first():
    first()
    plain()
    second()
    process.close()
    assert closed == ["second", "first"]


def test_a_new_process_has_new_parts():
    before = first()
    process.renew()
    assert first() is not before


def test_one_part_can_be_made_again():
    one, other = first(), second()
    first.cache_clear()
    assert first() is not one
    assert second() is other


def test_a_forked_child_makes_its_own_and_leaves_its_parent_s_alone():
    part = first()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        kept = any(part in process.parts.values() for process in process._inherited)
        process.close()
        own = first() is not part
        os.write(writing, f"{kept} {own} {closed}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    assert os.read(reading, 100) == b"True True []"
    os.close(reading)
    assert first() is part


def test_process_that_multiprocessing_makes_runs_what_is_due_at_its_end(tmp_path):
    stored = tmp_path / "stored"

    def work():
        at_end(lambda: stored.write_text("usage"))

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert stored.read_text() == "usage"
