"""Buckets in Redis, for several machines: one script a move, by Redis' own clock. Redis forgets full buckets itself."""

from typing import Any, cast

import redis

from embeddings.access.limiter.gcra import Clock, Moved
from providers.state import StoreUnavailable
from providers.state.redis import redis_client

PREFIX = "embeddings:bucket:"
OWN_CLOCK = -1  # sent for "now": the script asks Redis

# A bucket outlives the moment it is full by a minute: nothing hangs on when exactly Redis drops it.
MOVE = """
local now = tonumber(ARGV[1])
local cost, limit, ceiling = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if now < 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local full_at = tonumber(redis.call('GET', KEYS[1]) or now)
local function remember(lag)
  redis.call('SET', KEYS[1], string.format('%.0f', now + lag), 'PX', math.ceil(lag / 1000) + 60000)
end
local lag = math.min(math.max(full_at - now, 0), ceiling)
if lag + cost <= limit then
  remember(lag + cost)
  return {1, lag + cost}
end
if full_at - now > ceiling then
  remember(lag)
end
return {0, lag}
"""


class RedisBuckets:
    """`clock` is for tests, None means Redis' own."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._clock = clock
        self._client = redis_client(url)
        self._script = self._client.register_script(MOVE)

    def move(self, key: str, *, cost: int, limit: int, ceiling: int) -> Moved:
        now = self._clock() if self._clock else OWN_CLOCK
        try:
            answer: Any = self._script(
                keys=[PREFIX + key], args=[now, cost, limit, ceiling]
            )
        except redis.RedisError as error:
            raise StoreUnavailable(type(error).__name__) from error
        allowed, lag = cast("list[int]", answer)
        return Moved(allowed=bool(allowed), lag=lag)

    def forget_full(self) -> None:
        """Do nothing: every key has a time to live."""

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()
