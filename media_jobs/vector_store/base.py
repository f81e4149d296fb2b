"""The one interface of every store: replace, delete, search, stats."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
# How databases keep them: float32, little-endian.
STORED = np.dtype("<f4")


class Superseded(Exception):
    """A replacement was given up and changed nothing: its guard said no, or its media item is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One piece of a text. `start` and `end` are offsets in characters; `vector` is float32 (d,), unit length."""

    index: int
    text: str
    start: int
    end: int
    vector: Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Where vectors may be compared: `vector_space` and `dimensions` say it; vectors of two spaces never meet.

    `provider` and `model` are who made the vectors. Two providers of one model may share a space.
    """

    provider: str
    model: str
    vector_space: str
    dimensions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One chunk found. `score`: cosine, or in a hybrid search the sum of reciprocal ranks; higher is better."""

    media_id: int
    chunk_index: int
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """What is stored: chunks, media items that have any, and the spaces they lie in."""

    chunks: int
    media: int
    spaces: tuple[Space, ...]


class VectorStore(ABC):
    """Chunks and their vectors, by media item. Shared by all threads of a process."""

    @abstractmethod
    def replace(
        self,
        media_id: int,
        space: Space,
        chunks: Iterable[Chunk],
        *,
        guard: Callable[[], bool] | None = None,
    ) -> int:
        """Put `chunks` in place of all that is stored for the item, in one transaction, and return their number.

        `chunks` is read inside the transaction, which keeps other writers waiting: the vectors must be there already.
        `guard` is called as the last step. Raises Superseded, ValueError for a vector that does not fit the space, and
        what `chunks` raises; then nothing has changed.
        """

    @abstractmethod
    def load(self, space: Space, items: Sequence[tuple[int, Sequence[Chunk]]]) -> None:
        """Store the chunks of items that have none, each at least one, for a caller who has many such calls to make.

        Runs in a transaction of the caller's. An index over the space is not made: that is for `build_index`, which
        the caller calls in the end. Raises ValueError for a vector that does not fit the space.
        """

    @abstractmethod
    def build_index(self, space: Space) -> None:
        """Make what searches of the space are fast by, where that is not there yet."""

    @abstractmethod
    def delete(self, media_ids: Collection[int]) -> int:
        """Remove all that is stored for these items and return how many chunks that were."""

    @abstractmethod
    def search(
        self,
        query: Vector,
        space: Space,
        *,
        top_k: int,
        media_ids: Collection[int] | None = None,
        text: str | None = None,
    ) -> list[Hit]:
        """Return the chunks of `space` nearest to `query` (float32 (d,), unit length), best first.

        `media_ids`: only in these items; None: in all. `text`: also find chunks by its words, and merge both lists.
        """

    @abstractmethod
    def vectors(self, chunk_ids: Collection[int]) -> dict[int, Vector]:
        """Return the vectors of these chunks, by chunk id; those that are gone are left out."""

    @abstractmethod
    def stats(self, media_ids: Collection[int] | None = None) -> StoreStats:
        """Say what is stored for these items, or for all."""

    @abstractmethod
    def slow_searches(self) -> list[str]:
        """Say of which spaces each search takes long, why, and what to do."""


def checked(vector: Vector, dimensions: int) -> Vector:
    """Return `vector` as float32. Raises ValueError unless it is finite and has that many dimensions."""
    vector = np.asarray(vector, dtype=np.float32)
    if vector.shape != (dimensions,):
        raise ValueError(
            f"A vector of {dimensions} dimensions was due, not one of shape {vector.shape}."
        )
    if not np.isfinite(vector).all():
        raise ValueError("A vector holds a value that is not finite.")
    return vector


def to_bytes(vector: Vector) -> bytes:
    return vector.astype(STORED).tobytes()


def from_bytes(data: bytes | memoryview) -> Vector:
    """Return float32 (d,), read-only."""
    return np.frombuffer(data, dtype=STORED)
