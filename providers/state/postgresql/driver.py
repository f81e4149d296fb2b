"""psycopg with connections whose waits end, as Django's backend wants to have it: a module with `connect`."""

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

from providers.state.database import ABSENT, waits

Answer = TypeVar("Answer")


class Connection(psycopg.Connection[Any]):
    """Every answer is waited for here. What comes too late costs the connection: nobody knows what it would mean."""

    def wait(
        self, gen: Generator[Any, Any, Answer], *args: Any, **kwargs: Any
    ) -> Answer:
        seconds = waits.patience()
        if seconds is None:
            return super().wait(gen, *args, **kwargs)
        if not waits.may_ask():
            raise psycopg.OperationalError(ABSENT)
        try:
            answer = super().wait(_within(gen, seconds), *args, **kwargs)
        except TimeoutError as error:
            self.pgconn.finish()
            waits.unanswered()
            raise psycopg.OperationalError(ABSENT) from error
        waits.answered()
        return answer


def connect(*args: Any, **kwargs: Any) -> Connection:
    """Return a new connection. Raises OperationalError, at once while the server is known not to answer."""
    if not waits.may_ask():
        raise psycopg.OperationalError(ABSENT)
    try:
        connection = Connection.connect(*args, **kwargs)
    except psycopg.errors.ConnectionTimeout:
        waits.unanswered()
        raise
    waits.answered()
    return connection


def _within(
    gen: Generator[Any, Any, Answer], seconds: float
) -> Generator[Any, Any, Answer]:
    """Run `gen` as psycopg does, and raise TimeoutError once the server has not been heard of for so long."""
    deadline = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            now = time.monotonic()
            if ready:
                deadline = now + seconds
            elif now > deadline:
                raise TimeoutError
            wanted = gen.send(ready)
    except StopIteration as end:
        answer: Answer = end.value
        return answer


def __getattr__(name: str) -> Any:
    return getattr(psycopg, name)
