"""The vectors of spaces in memory. A `Matrix` and its blocks are immutable, so that threads search without a lock.

A change makes a new `Matrix` that shares the blocks that did not change: a megabyte or so is copied, never the whole.
"""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from media_jobs.vector_store.base import Vector
from media_jobs.vector_store.rows import VectorSpace

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]

BLOCK_ROWS = 8192
# A block of more rows takes in a later one only if it is no more than so many times its size: what changes one item
# does not copy a whole block.
SMALL_ROWS = 512
GROWTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Rows as they were read. `vectors`: float32 (n, d); `alive`: which rows still count.

    `file`: the name of the file that holds all but `alive`, where processes share one.
    """

    chunk_ids: Ids
    media_ids: Ids
    vectors: NDArray[np.float32]
    alive: Mask
    live_rows: int
    file: str | None = None

    @classmethod
    def of(
        cls, chunk_ids: Ids, media_ids: Ids, vectors: NDArray[np.float32]
    ) -> "Block":
        alive = np.ones(len(chunk_ids), dtype=np.bool_)
        return cls(
            chunk_ids=chunk_ids,
            media_ids=media_ids,
            vectors=vectors,
            alive=alive,
            live_rows=len(chunk_ids),
        )

    def without(self, media_ids: Ids) -> "Block":
        """Return the block with these items' rows dead."""
        alive = self.alive & ~np.isin(self.media_ids, media_ids)
        live_rows = int(np.count_nonzero(alive))
        if live_rows == self.live_rows:
            return self
        return replace(self, alive=alive, live_rows=live_rows)

    def scores(self, query: Vector, only: Ids | None) -> NDArray[np.float32]:
        """Return each row's cosine, or minus infinity where the row does not count."""
        # Not `@`: OpenBLAS would spread it over all cores, and its threads would wait for each other while the engine
        # runs there: on two busy cores it took five times the CPU time of one thread that reads memory at full speed.
        scores: NDArray[np.float32] = np.vecdot(self.vectors, query)
        wanted = self.alive
        if only is not None:
            wanted = wanted & np.isin(self.media_ids, only)
        scores[~wanted] = -np.inf
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """All rows of a space as of `version`."""

    version: int
    blocks: tuple[Block, ...] = ()

    def nearest(
        self, query: Vector, limit: int, only: Collection[int] | None = None
    ) -> list[tuple[int, float]]:
        """Return the best `limit` chunk ids with their cosines, best first; equals in the order of their ids."""
        if not self.blocks:
            return []
        wanted = None if only is None else as_ids(only)
        scores = np.concatenate([block.scores(query, wanted) for block in self.blocks])
        chunk_ids = np.concatenate([block.chunk_ids for block in self.blocks])
        return best(chunk_ids, scores, limit)

    def media_ids(self) -> Ids:
        """Return the items that have rows, sorted."""
        if not self.blocks:
            return as_ids(())
        return np.unique(
            np.concatenate([block.media_ids[block.alive] for block in self.blocks])
        )

    def without(self, media_ids: Collection[int] | Ids) -> "Matrix":
        """Return the matrix less these items."""
        gone = as_ids(media_ids)
        blocks = (
            tuple(block.without(gone) for block in self.blocks)
            if len(gone)
            else self.blocks
        )
        return Matrix(version=self.version, blocks=blocks)

    def updated(self, version: int, blocks: Iterable[Block], keep: "Keep") -> "Matrix":
        """Return the matrix of `version`, with `blocks` added, and each kept."""
        every = packed(chain(self.blocks, blocks))
        return Matrix(version=version, blocks=tuple(keep(block) for block in every))

    def without_files(self) -> "Matrix":
        """Return the matrix as one whose files may be removed."""
        blocks = tuple(replace(block, file=None) for block in self.blocks)
        return replace(self, blocks=blocks)

    @property
    def size_bytes(self) -> int:
        return sum(
            len(block.chunk_ids) * row_bytes(block.vectors.shape[1])
            for block in self.blocks
        )


def row_bytes(dimensions: int) -> int:
    """Return what a row takes: its vector, two ids and a flag."""
    return 4 * dimensions + 17


def as_ids(ids: Collection[int] | Ids) -> Ids:
    return np.fromiter(ids, dtype=np.int64, count=len(ids))


def best(
    chunk_ids: Ids, scores: NDArray[np.float32], limit: int
) -> list[tuple[int, float]]:
    """Return the `limit` highest finite scores, best first, equals in the order of their ids."""
    limit = min(limit, len(scores))
    if limit < 1:
        return []
    threshold = np.partition(scores, -limit)[-limit]
    candidates = np.flatnonzero((scores >= threshold) & np.isfinite(scores))
    order = np.lexsort((chunk_ids[candidates], -scores[candidates]))[:limit]
    chosen = candidates[order]
    return list(zip(chunk_ids[chosen].tolist(), scores[chosen].tolist(), strict=True))


def packed(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks with neighbours joined where they fit into one, and with half-dead ones cut down."""
    last: Block | None = None
    for block in blocks:
        if not block.live_rows:
            continue
        if last and joins(last.live_rows, block.live_rows):
            last = joined(last, block)
            continue
        if last:
            yield last
        half_dead = 2 * block.live_rows < len(block.chunk_ids)
        last = joined(block) if half_dead else block
    if last:
        yield last


def joins(rows: int, more: int) -> bool:
    """Whether a block of so many rows takes in the next one."""
    return rows + more <= BLOCK_ROWS and rows <= max(SMALL_ROWS, GROWTH * more)


def joined(*blocks: Block) -> Block:
    """Return one block of the rows that are alive."""
    return Block.of(
        np.concatenate([block.chunk_ids[block.alive] for block in blocks]),
        np.concatenate([block.media_ids[block.alive] for block in blocks]),
        np.concatenate([block.vectors[block.alive] for block in blocks]),
    )


# What becomes of a block that a search will need again: it is returned as it is to be held.
Keep = Callable[[Block], Block]
Count = Callable[[VectorSpace], int]
Refresh = Callable[[Matrix | None, VectorSpace, Keep], Matrix]


def as_it_is(block: Block) -> Block:
    return block


class MatrixMemory:
    """This process's own matrices, by the id of their space: bounded, least recently used out first, each refreshed by
    one thread.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._matrices: OrderedDict[int, Matrix] = OrderedDict()
        self._refreshing: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)

    def get(self, space: VectorSpace) -> Matrix | None:
        """Return the matrix of exactly the space's version."""
        held = self.held(space.pk)
        return held if held and held.version == space.version else None

    def refreshed(
        self,
        space: VectorSpace,
        count: Count,
        refresh: Refresh,
    ) -> Matrix | None:
        """Return the matrix of the space's version, or None where it cannot be held.

        That is: it is too large, or another thread's is of a later moment than the caller's snapshot.
        """
        with self._lock:
            refreshing = self._refreshing[space.pk]
        with refreshing:
            held = self.held(space.pk)
            if held and held.version >= space.version:
                return held if held.version == space.version else None
            if count(space) * row_bytes(space.dimensions) > self._max_bytes:
                self.drop(space.pk)
                return None
            matrix = refresh(held, space, as_it_is)
            self.hold(space.pk, matrix)
            return matrix

    @property
    def size_bytes(self) -> int:
        with self._lock:
            return self._size()

    def held(self, space_id: int) -> Matrix | None:
        """Return the matrix of whatever version."""
        with self._lock:
            if space_id in self._matrices:
                self._matrices.move_to_end(space_id)
            return self._matrices.get(space_id)

    def hold(self, space_id: int, matrix: Matrix) -> None:
        """Hold a matrix in the place of an older one."""
        with self._lock:
            self._matrices[space_id] = matrix
            self._matrices.move_to_end(space_id)
            while len(self._matrices) > 1 and self._size() > self._max_bytes:
                self._matrices.popitem(last=False)

    def drop(self, space_id: int) -> None:
        """Hold none of that space."""
        with self._lock:
            self._matrices.pop(space_id, None)

    def _size(self) -> int:
        return sum(matrix.size_bytes for matrix in self._matrices.values())
