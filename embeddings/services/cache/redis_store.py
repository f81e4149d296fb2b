"""Rows in Redis, shared by all machines: a string a row, and two sorted sets that tell how old and how used they are.

The generation is part of every name, so nothing written for one that is over is ever read; it lapses by itself.
"""

import contextlib
import secrets
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import redis

from embeddings.services.cache.row_store import (
    CLOCK_SKEW_SECONDS,
    MAX_DROPPED,
    Cleared,
    Clock,
    Entry,
    evicted,
)
from providers.state import StoreUnavailable
from providers.state.redis import TIMEOUT_SECONDS, redis_client

PREFIX = b"embeddings:cache:"
GENERATION = PREFIX + b"generation"
# For all rows of a request, which may be megabytes.
READ_SECONDS = 0.5
KEYS_A_COMMAND = 256
STORED_AT = struct.Struct("<d")  # seconds since the epoch; stands before each row


class RedisStore:
    """The client is thread-safe and pools its connections."""

    name: ClassVar[str] = "redis"
    timer = staticmethod(time.monotonic)

    def __init__(
        self,
        url: str,
        *,
        max_size: int,
        ttl_seconds: float,
        clock: Clock = time.time,
        timeout_seconds: float = TIMEOUT_SECONDS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self._max_size = max_size
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._read_seconds = read_seconds
        self._client = redis_client(url, timeout_seconds=timeout_seconds)

    def generation(self) -> int:
        with _asking():
            drawn = self._client.get(GENERATION)
            if drawn is None:
                self._client.set(GENERATION, secrets.randbits(62), nx=True)
                drawn = self._client.get(GENERATION)
            if drawn is None:
                raise StoreUnavailable("it keeps nothing")
            return int(drawn)

    def read(self, keys: Sequence[bytes], *, generation: int) -> dict[bytes, Entry]:
        names = _Names(generation)
        deadline = self.timer() + self._read_seconds
        found = {}
        with _asking():
            for start in range(0, len(keys), KEYS_A_COMMAND):
                if self.timer() > deadline:
                    raise StoreUnavailable("too slow")
                part = keys[start : start + KEYS_A_COMMAND]
                values = self._client.mget([names.row(key) for key in part])
                for key, value in zip(part, values, strict=True):
                    if value is not None:
                        found[key] = _entry(value)
        oldest, newest = self._lifetime()
        return {k: e for k, e in found.items() if oldest <= e.stored_at <= newest}

    def write(
        self,
        entries: Mapping[bytes, Entry],
        *,
        used: Sequence[bytes] = (),
        generation: int,
    ) -> None:
        names = _Names(generation)
        now = self._clock()
        with _asking():
            pipe = self._client.pipeline()  # all of it or nothing
            if used:
                pipe.zadd(names.used, dict.fromkeys(used, now), xx=True)
            if entries:
                self._put(pipe, names, entries, now)
            pipe.zcard(names.used)
            oldest, newest = self._lifetime()
            pipe.zrangebyscore(names.stored, "-inf", f"({oldest}", 0, MAX_DROPPED)
            pipe.zrangebyscore(names.stored, f"({newest}", "+inf", 0, MAX_DROPPED)
            *_, size, expired, from_ahead = pipe.execute()
            gone = expired + from_ahead
            if gone:
                self._drop(names, gone)
            if too_many := evicted(size - len(gone), self._max_size):
                self._drop(names, self._client.zrange(names.used, 0, too_many - 1))

    def forget(self, keys: Sequence[bytes], *, generation: int) -> None:
        with _asking():
            self._drop(_Names(generation), keys)

    def size(self, *, generation: int) -> int:
        oldest, _ = self._lifetime()
        with _asking():
            return int(self._client.zcount(_Names(generation).stored, oldest, "+inf"))

    def clear(self) -> Cleared:
        begun = secrets.randbits(62)
        with _asking():
            over = self._client.getset(GENERATION, begun)
        if over is None:
            return Cleared(0, begun)
        size = self.size(generation=int(over))
        names = _Names(int(over))
        with _asking():
            while unused := self._client.zrange(names.used, 0, KEYS_A_COMMAND - 1):
                self._drop(names, unused)
        return Cleared(size, begun)

    def close(self) -> None:
        self._client.close()

    def _put(
        self, pipe: Any, names: "_Names", entries: Mapping[bytes, Entry], now: float
    ) -> None:
        lifetime_milliseconds = round(self._ttl_seconds * 1000)
        for key, (stored_at, row) in entries.items():
            pipe.set(
                names.row(key),
                STORED_AT.pack(stored_at) + row,
                px=lifetime_milliseconds,
            )
        pipe.zadd(names.stored, {key: e.stored_at for key, e in entries.items()})
        pipe.zadd(names.used, dict.fromkeys(entries, now))
        # Once nothing was written for a row's lifetime, the sets tell of nothing that is left.
        pipe.pexpire(names.stored, lifetime_milliseconds)
        pipe.pexpire(names.used, lifetime_milliseconds)

    def _drop(self, names: "_Names", keys: Sequence[bytes]) -> None:
        pipe = self._client.pipeline()  # all of it or nothing
        pipe.unlink(*(names.row(key) for key in keys))
        pipe.zrem(names.stored, *keys)
        pipe.zrem(names.used, *keys)
        pipe.execute()

    def _lifetime(self) -> tuple[float, float]:
        """Return between which moments a row must have been stored to count."""
        now = self._clock()
        return now - self._ttl_seconds, now + CLOCK_SKEW_SECONDS


class _Names:
    """What a generation's keys are called in Redis."""

    def __init__(self, generation: int) -> None:
        self._prefix = PREFIX + b"%d:" % generation
        self.stored = self._prefix + b"stored"
        self.used = self._prefix + b"used"

    def row(self, key: bytes) -> bytes:
        return self._prefix + b"row:" + key


def _entry(value: bytes) -> Entry:
    return Entry(STORED_AT.unpack_from(value)[0], value[STORED_AT.size :])


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """Say StoreUnavailable where Redis fails, or holds what nobody here wrote; its own words may name the address."""
    try:
        yield
    except (redis.RedisError, ValueError, struct.error) as error:
        raise StoreUnavailable(type(error).__name__) from error
