import threading

import pytest

from providers.remote import Limits
from providers.remote.splitting import estimated_tokens, run_all, split
from tests.collector import collector_off, failing


def uncounted():
    raise AssertionError("must not be counted")


def test_parts_keep_order_and_the_item_limit():
    texts = [str(n) for n in range(10)]

    parts = list(split(texts, Limits(max_items=4), uncounted))

    assert [len(part) for part in parts] == [4, 4, 2]
    assert [text for part in parts for text in part] == texts


def test_parts_keep_the_token_limit():
    texts = ["x" * 40] * 5
    limits = Limits(max_items=100, max_tokens=50)

    parts = split(texts, limits, lambda: [20, 20, 20, 50, 10])

    assert [len(part) for part in parts] == [2, 1, 1, 1]


def test_text_over_the_token_limit_goes_alone():
    texts = ["x" * 200, "y" * 200, "z" * 200]
    limits = Limits(max_items=100, max_tokens=50)

    parts = split(texts, limits, lambda: [10, 99, 10])

    assert [len(part) for part in parts] == [1, 1, 1]


def test_tokens_are_not_counted_while_bytes_bound_them():
    limits = Limits(max_items=100, max_tokens=1000)

    assert list(split(["short"] * 10, limits, uncounted)) == [["short"] * 10]


@pytest.mark.parametrize(
    "text", ["plain English words, some", "世界人民", "🌍🌎🌏", "{}[];"]
)
def test_estimate_grows_with_the_bytes(text):
    assert estimated_tokens(text, None) >= len(text.encode()) / 2


def test_estimate_is_at_most_the_models_limit():
    assert estimated_tokens("word " * 10_000, 512) == 512


def test_results_come_in_the_order_of_the_tasks():
    first_may_end = threading.Event()

    def first():
        assert first_may_end.wait(5)
        return 1

    def second():
        first_may_end.set()
        return 2

    assert run_all([first, second], parallel=2, on_failure=uncounted) == [1, 2]


def test_no_more_than_the_given_number_run_at_once():
    running = []
    most = []
    lock = threading.Lock()
    together = threading.Barrier(3, timeout=5)

    def task():
        with lock:
            running.append(1)
            most.append(len(running))
        together.wait()
        with lock:
            running.pop()

    run_all([task] * 9, parallel=3, on_failure=uncounted)

    assert max(most) == 3


def test_first_failure_ends_the_rest():
    ended = threading.Event()
    begun = []

    def failing():
        raise ValueError("first")

    def waiting():
        begun.append(1)
        assert ended.wait(5)

    with pytest.raises(ValueError, match="first"):
        run_all([waiting, failing, *[waiting] * 20], parallel=2, on_failure=ended.set)

    assert len(begun) < 20


def test_single_task_needs_no_thread():
    def task():
        return threading.current_thread()

    assert run_all([task], parallel=4, on_failure=uncounted) == [
        threading.current_thread()
    ]


def test_a_failure_holds_nothing_once_it_is_handled():
    with collector_off() as held:

        def failing_task():
            texts = held()
            raise ValueError(f"{type(texts).__name__} is too long")

        tasks = [failing_task, lambda: None]
        failing(lambda: run_all(tasks, parallel=2, on_failure=lambda: None), ValueError)
        assert held.alive() == 0
