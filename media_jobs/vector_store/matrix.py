"""Spaces in memory, coded. A `Matrix` and its blocks are immutable, so that threads search without a lock.

A change makes a new `Matrix` that shares the blocks that did not change: a megabyte or so is copied, never the whole.
"""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from media_jobs.vector_store.base import Vector
from media_jobs.vector_store.coded import (
    CodedVectors,
    Floats,
    Mask,
    Rows,
    asked_of,
    coded_bytes,
)
from media_jobs.vector_store.rows import VectorSpace

Ids = NDArray[np.int64]

BLOCK_ROWS = 16_384
# A block of more rows takes in a later one only if it is no more than so many times its size: what changes one item
# does not copy a whole block.
SMALL_ROWS = 512
GROWTH = 8


# Of so many rows the codes of all are compared; of more, those that are likely to be near enough by their signs.
COMPARED_ROWS = 16_384
FIRST_ROWS = 1024  # by whose codes it is first known how near that is
# No more whole vectors are read for one search, however many are as near as the codes can say.
MAX_CANDIDATES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Rows as they were read. `runs`: where a row of another item than the last one's stands; `alive`: which rows still
    count. `file`: the name of the file that holds all but these two, where processes share one.
    """

    chunk_ids: Ids
    media_ids: Ids
    vectors: CodedVectors
    runs: Ids
    alive: Mask
    live_rows: int
    file: str | None = None

    @classmethod
    def of(
        cls,
        chunk_ids: Ids,
        media_ids: Ids,
        vectors: CodedVectors,
        *,
        alive: Mask | None = None,
        file: str | None = None,
    ) -> "Block":
        if alive is None:
            alive = np.ones(len(chunk_ids), dtype=np.bool_)
        return cls(
            chunk_ids=chunk_ids,
            media_ids=media_ids,
            vectors=vectors,
            runs=np.flatnonzero(np.diff(media_ids, prepend=media_ids[:1] - 1)),
            alive=alive,
            live_rows=int(np.count_nonzero(alive)),
            file=file,
        )

    def without(self, media_ids: Ids) -> "Block":
        """Return the block with the rows of these items, sorted, dead."""
        alive = self.alive & ~self._of(media_ids)
        live_rows = int(np.count_nonzero(alive))
        if live_rows == self.live_rows:
            return self
        return replace(self, alive=alive, live_rows=live_rows)

    def wanted(self, only: Ids | None) -> Mask:
        """Return which rows count, those of these items (sorted) alone if any are named."""
        return self.alive if only is None else self.alive & self._of(only)

    def _of(self, media_ids: Ids) -> Mask:
        if not len(media_ids):
            return np.zeros(len(self.media_ids), dtype=np.bool_)
        items = self.media_ids[self.runs]
        places = np.searchsorted(media_ids, items)
        found = media_ids[np.minimum(places, len(media_ids) - 1)] == items
        return np.repeat(found, np.diff(self.runs, append=len(self.media_ids)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """All rows of a space as of `version`."""

    version: int
    blocks: tuple[Block, ...] = ()

    def candidates(
        self, query: Vector, limit: int, only: Collection[int] | None = None
    ) -> list[int]:
        """Return the chunks to compare whole: the best `limit` are among them, unless the signs left one out."""
        items = None if only is None else np.sort(as_ids(only))
        masks = [block.wanted(items) for block in self.blocks]
        count = sum(int(np.count_nonzero(mask)) for mask in masks)
        if not count:
            return []
        if count > COMPARED_ROWS:
            compared = self._likely(query, limit, masks)
        else:
            rows = [np.flatnonzero(mask) for mask in masks]
            compared = Compared.of(query, zip(self.blocks, rows, strict=True))
        most = np.where(compared.most < compared.floor(limit), -np.inf, compared.most)
        found = best(compared.chunk_ids, most, max(limit, MAX_CANDIDATES))
        return [chunk_id for chunk_id, _ in found]

    def _likely(self, query: Vector, limit: int, masks: Sequence[Mask]) -> "Compared":
        """Compare those rows of `masks` that are likely to be near enough by their signs.

        How near that is, some rows say first, then each time as many blocks as were looked at before.
        """
        asked = asked_of(query, [block.vectors for block in self.blocks])
        each = list(zip(self.blocks, masks, asked, strict=True))
        first, mask = next((block, mask) for block, mask, _ in each if mask.any())
        some = Compared.of(query, [(first, np.flatnonzero(mask)[:FIRST_ROWS])])
        floor, compared = some.floor(limit), Compared.of(query, [])
        start, end = 0, 1
        while start < len(each):
            found = []
            for block, mask, place in each[start:end]:
                rows = block.vectors.likely(place, floor)
                found.append((block, rows[mask[rows]]))
            compared = compared.with_(Compared.of(query, found))
            floor = max(floor, compared.floor(limit))
            start, end = end, 2 * end + 1
        return compared

    def media_ids(self) -> Ids:
        """Return the items that have rows, sorted."""
        if not self.blocks:
            return as_ids(())
        return np.unique(
            np.concatenate([block.media_ids[block.alive] for block in self.blocks])
        )

    def without(self, media_ids: Collection[int] | Ids) -> "Matrix":
        """Return the matrix less these items."""
        gone = np.sort(as_ids(media_ids))
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
            len(block.chunk_ids) * row_bytes(block.vectors.dimensions)
            for block in self.blocks
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Rows that were compared by their codes: the least and the most that each one's cosine can be."""

    chunk_ids: Ids
    least: Floats
    most: Floats

    @classmethod
    def of(cls, query: Vector, found: Iterable[tuple[Block, Rows]]) -> "Compared":
        """Compare these rows of blocks."""
        none = np.empty(0, dtype=np.float32)
        parts = [(as_ids(()), none, none)]
        parts += [
            (block.chunk_ids[rows], *block.vectors.bounds(query, rows))
            for block, rows in found
            if len(rows)
        ]
        chunk_ids, least, most = map(np.concatenate, zip(*parts, strict=True))
        return cls(chunk_ids=chunk_ids, least=least, most=most)

    def with_(self, other: "Compared") -> "Compared":
        return Compared(
            chunk_ids=np.concatenate([self.chunk_ids, other.chunk_ids]),
            least=np.concatenate([self.least, other.least]),
            most=np.concatenate([self.most, other.most]),
        )

    def floor(self, limit: int) -> float:
        """Return what the cosines of the best `limit` reach at least."""
        if len(self.least) < limit:
            return -np.inf
        return float(np.partition(self.least, -limit)[-limit])


def row_bytes(dimensions: int) -> int:
    """Return what a row takes: its vector, two ids and a flag."""
    return coded_bytes(dimensions) + 17


def as_ids(ids: Collection[int] | Ids) -> Ids:
    return np.fromiter(ids, dtype=np.int64, count=len(ids))


def best(ids: Ids, scores: Floats, limit: int) -> list[tuple[int, float]]:
    """Return the `limit` highest finite scores, best first, equals in the order of their ids."""
    limit = min(limit, len(scores))
    if limit < 1:
        return []
    threshold = np.partition(scores, -limit)[-limit]
    candidates = np.flatnonzero((scores >= threshold) & np.isfinite(scores))
    order = np.lexsort((ids[candidates], -scores[candidates]))[:limit]
    chosen = candidates[order]
    return list(zip(ids[chosen].tolist(), scores[chosen].tolist(), strict=True))


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
        CodedVectors.joined([(block.vectors, block.alive) for block in blocks]),
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
