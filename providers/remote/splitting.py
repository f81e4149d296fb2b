"""Cut a request into ones that the provider takes, run them together, put nothing out
of order.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeVar

from providers.exceptions import bare_copy

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request to the provider may hold; `max_tokens` counts all its texts
    together.
    """

    max_items: int
    max_tokens: int | None = None


def estimated_tokens(text: str, max_tokens: int | None) -> int:
    """Guess a text's tokens from above: no tokenizer in use here makes more than one of
    two bytes of ordinary text.

    A text over the model's own limit counts as that limit, as the upstream refuses or
    cuts it anyway.
    """
    guess = (len(text.encode()) + 1) // 2 + 2
    return guess if max_tokens is None else min(guess, max_tokens)


def split(
    texts: Sequence[str], limits: Limits, count_tokens: Callable[[], Sequence[int]]
) -> Iterator[Sequence[str]]:
    """Yield `texts` in order, in parts within `limits`. A text too large on its own
    makes a part of its own.

    `count_tokens` is called only if the limit can be reached: bytes bound the tokens
    from above.
    """
    budget = limits.max_tokens
    if budget is None or sum(len(text.encode()) + 2 for text in texts) <= budget:
        counts: Sequence[int] = [0] * len(texts)
    else:
        counts = count_tokens()
    start = used = 0
    for position, count in enumerate(counts):
        full = position - start >= limits.max_items or (
            budget is not None and used + count > budget
        )
        if full and position > start:
            yield texts[start:position]
            start, used = position, 0
        used += count
    if start < len(texts):
        yield texts[start:]


def run_all(
    tasks: Sequence[Callable[[], T]], *, parallel: int, on_failure: Callable[[], None]
) -> list[T]:
    """Run `tasks`, at most `parallel` at a time, and return their results in order.

    On the first exception `on_failure` is called (it ends the others early), tasks not
    yet begun are dropped, and that exception is raised once the running ones have
    ended.
    """
    if len(tasks) == 1:
        return [tasks[0]()]
    with ThreadPoolExecutor(
        min(parallel, len(tasks)), thread_name_prefix="upstream"
    ) as pool:
        futures = [pool.submit(copy_context().run, task) for task in tasks]
        done, pending = wait(futures, return_when=FIRST_EXCEPTION)
        failure = next(
            (
                future.exception()
                for future in futures
                if future in done and future.exception()
            ),
            None,
        )
        if failure is not None:
            on_failure()
            _drop(pending)
            raise bare_copy(failure) from failure
        return [future.result() for future in futures]


def _drop(pending: set[Future[T]]) -> None:
    for future in pending:
        future.cancel()
