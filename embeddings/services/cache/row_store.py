"""What a store of rows that processes share can do."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

from embeddings.services.cache.lru import Row

Clock = Callable[[], float]  # seconds since the epoch

# Rows of machines whose clocks differ by this much are taken; those from further ahead stem from a clock set back.
CLOCK_SKEW_SECONDS = 60.0
# Of the rows a store may hold, the share that goes at once when it is full.
EVICTED_SHARE = 0.05
# The most rows that go with one write for one reason: more than a write brings, and not so many that it takes long.
MAX_DROPPED = 2000


class Entry(NamedTuple):
    """A row, and when it was computed, in seconds since the epoch."""

    stored_at: float
    row: Row


class Cleared(NamedTuple):
    """How many rows were forgotten, and the generation that begins with that."""

    rows: int
    generation: int


class RowStore(Protocol):
    """Rows by key, at most so many and each for so long as the store was made for; the least recently used go first.

    A generation is the time between two clears, a number drawn at random. What is read or written for one that is over
    is nothing: so a clear wins against writes under way. Every method raises StoreUnavailable.
    """

    name: ClassVar[str]

    def generation(self) -> int:
        """Return the one that runs."""

    def read(self, keys: Sequence[bytes], *, generation: int) -> dict[bytes, Entry]:
        """Return those of the rows that are there; whether they are used now is said with the next write."""

    def write(
        self,
        entries: Mapping[bytes, Entry],
        *,
        used: Sequence[bytes] = (),
        generation: int,
    ) -> None:
        """Put rows in, note that others were used, and drop what is too old or too much."""

    def forget(self, keys: Sequence[bytes], *, generation: int) -> None:
        """Drop these rows."""

    def size(self, *, generation: int) -> int:
        """Return how many rows there are."""

    def clear(self) -> Cleared:
        """Drop all rows and begin a new generation."""

    def close(self) -> None:
        """Let go of files and connections; the next call opens them again."""


def evicted(size: int, max_size: int) -> int:
    """Return how many rows a store of this size has to drop: none, or enough for a while."""
    if size <= max_size:
        return 0
    return min(size - max_size + int(max_size * EVICTED_SHARE), MAX_DROPPED)
