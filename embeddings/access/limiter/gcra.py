"""Token buckets as GCRA sees them, in whole microseconds.

A bucket that lags L behind being full, of capacity C, lets something of cost K through if L + K <= C, and then lags
L + K. Time refills it: L falls by a second a second. One number a bucket, no timers, no rounding that adds up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

MICROSECONDS = 1_000_000
MINUTE = 60 * MICROSECONDS
# The most a debt of tokens can grow to: a caller waits a day at worst, also after the clock was set back.
MAX_DEBT = 24 * 60 * MINUTE
UNBOUNDED = 2**52  # exact in the double that Redis counts with

Clock = Callable[[], int]  # microseconds since the epoch


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a bucket: whether it moved, and how far it now lags behind being full."""

    allowed: bool
    lag: int


class BucketStore(Protocol):
    """Where buckets live. A bucket that is full again is as good as none, and may be forgotten."""

    def move(self, key: str, *, cost: int, limit: int, ceiling: int) -> Moved:
        """Let `cost` into the bucket if it then lags at most `limit`; all in microseconds, in one atomic step.

        A lag beyond `ceiling` counts as `ceiling`: it stems from a clock set back, or from a limit made tighter.
        Raises StoreUnavailable.
        """

    def forget_full(self) -> None:
        """Drop buckets that are full again. Raises StoreUnavailable."""

    def close(self) -> None:
        """Let go of files and connections; the next move opens them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A bucket of `burst` units that refills at `per_minute`; both at least 1."""

    per_minute: int
    burst: int

    def cost(self, units: int = 1) -> int:
        """Return what `units` cost, rounded up, so that the rate is never exceeded."""
        return -(-units * MINUTE // self.per_minute)

    @property
    def capacity(self) -> int:
        return self.burst * self.cost()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a caller stands with one bucket, after what it just asked.

    `retry_after`: microseconds after which one more unit will be let through; 0 if it would be now.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_after: int
    retry_after: int


def standing(moved: Moved, rate: Rate, *, unit: int) -> Standing:
    """Say what `moved` means to the caller. `unit`: the cost of the least that can be asked for."""
    free = rate.capacity - moved.lag
    return Standing(
        allowed=moved.allowed,
        limit=rate.burst,
        remaining=min(rate.burst, max(0, free * rate.per_minute // MINUTE)),
        reset_after=moved.lag,
        retry_after=max(0, unit - free),
    )
