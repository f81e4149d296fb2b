"""The client of Redis: an extra of the package, so that only those who use it import this."""

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# For one answer: a Redis slower than that is no help.
TIMEOUT_SECONDS = 0.25


def redis_client(url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Any:
    """Return a client that is thread-safe, pools its connections and tries once.

    Untyped: its stubs cannot tell synchronous answers from asynchronous ones.
    """
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
    )
