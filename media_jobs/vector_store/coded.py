"""Unit vectors in few bytes, to find in memory which of them to compare whole.

A byte a dimension says a cosine to a few thousandths. A bit a dimension, on which side of the block's mean the value
lies, says it to some hundredths, in a tenth of the time. How an inner product follows from an angle about a centre, and
how far it may be off, is RaBitQ's: https://arxiv.org/abs/2405.12497.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from media_jobs.vector_store.base import STORED, Vector

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]
CODE = np.dtype("<i1")
WORD = np.dtype("<u8")
PLACE = np.dtype("<u2")
COUNT = np.dtype("<i4")
# Rounding errs by no more than half a step in each dimension, evenly spread and of either sign: their sum over a unit
# query is beyond 2.5 steps, which is 8 standard deviations, once in 10**15 rows. In few dimensions it cannot be.
MOST_STEPS = 2.5
# How many standard deviations a cosine may lie above what the signs say. With 2, no more than 3 of 1,000 nearest were
# missed: of real vectors, of clusters, of noise, and of vectors that lean to one side.
LIKELY_DEVIATIONS = 2.0
LEVELS = 64  # of radii: finer says nothing more, beside what the signs leave open


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedVectors:
    """The vectors of a block's n rows.

    `codes`: int8 (n, d), each row in its own of `steps` (n,). `signs`: uint64 (d / 64, n), a bit for each value above
    that of `centre` (d,), the rows in the `order` uint16 (n,) of their distances from it: so many `members` (LEVELS,)
    are about as far as each of `radii` (LEVELS,).
    """

    codes: NDArray[np.int8]
    steps: Floats
    signs: NDArray[np.uint64]
    order: NDArray[np.uint16]
    members: NDArray[np.int32]
    radii: Floats
    centre: Vector

    @classmethod
    def of(cls, vectors: Floats) -> "CodedVectors":
        """Code float32 (n, d)."""
        steps = np.abs(vectors).max(axis=1) / np.float32(127)
        steps[steps == 0] = 1
        codes = np.rint(vectors / steps[:, None]).astype(CODE)
        return cls._around_their_mean(codes, steps, vectors)

    @classmethod
    def joined(cls, parts: Sequence[tuple["CodedVectors", Mask]]) -> "CodedVectors":
        """Return the rows that are named of each, as one."""
        codes = np.concatenate([part.codes[rows] for part, rows in parts])
        steps = np.concatenate([part.steps[rows] for part, rows in parts])
        return cls._around_their_mean(codes, steps, codes * steps[:, None])

    @classmethod
    def read(cls, content: memoryview, rows: int, dimensions: int) -> "CodedVectors":
        """Return what `arrays` wrote. Raises ValueError where `content` is of another size."""
        shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
            "signs": (WORD, (words_of(dimensions), rows)),
            "steps": (STORED, (rows,)),
            "members": (COUNT, (LEVELS,)),
            "radii": (STORED, (LEVELS,)),
            "centre": (STORED, (dimensions,)),
            "order": (PLACE, (rows,)),
            "codes": (CODE, (rows, dimensions)),
        }
        fields: dict[str, NDArray[Any]] = {}
        start = 0
        for name, (kind, shape) in shapes.items():
            end = start + kind.itemsize * int(np.prod(shape))
            fields[name] = np.frombuffer(content[start:end], kind).reshape(shape)
            start = end
        if start != len(content):
            raise ValueError("The file of a block is of another size.")
        return cls(**fields)

    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """Return what `read` reads, in its order: all numbers are aligned so."""
        return (
            self.signs,
            self.steps,
            self.members,
            self.radii,
            self.centre,
            self.order,
            self.codes,
        )

    @property
    def dimensions(self) -> int:
        return len(self.centre)

    def likely(self, asked: "Asked", floor: float) -> Rows:
        """Return the rows whose cosines are likely to reach `floor`, by the signs."""
        apart = np.zeros(len(self.order), dtype=np.uint16)
        words, counts = np.empty(len(apart), WORD), np.empty(len(apart), np.uint8)
        for own, word in zip(self.signs, asked.signs, strict=True):
            np.bitwise_xor(own, word, out=words)
            np.bitwise_count(words, out=counts)
            apart += counts
        too_many = np.repeat(self._too_many(asked, floor), self.members)
        return self.order[apart < too_many].astype(np.intp)

    def _too_many(self, asked: "Asked", floor: float) -> NDArray[np.uint16]:
        """Return for each of the radii how many signs are too many to differ for a row to reach `floor`."""
        # q x = (q - m)(x - m) + m q + m x - m m, and of a unit vector m x is (1 + m m - r r) / 2.
        needed = floor - asked.shift + self.radii**2 / 2
        needed /= asked.radius * self.radii + np.float32(1e-9)
        cosines = likely_cosines(self.dimensions)
        return (len(cosines) - np.searchsorted(cosines, needed)).astype(np.uint16)

    def bounds(self, query: Vector, rows: Rows) -> tuple[Floats, Floats]:
        """Return the least and the most that the cosines of these rows can be, by the codes."""
        steps = self.steps[rows]
        # Not `@`, which takes all cores: see `orm.nearest`.
        scores = np.vecdot(self.codes[rows].astype(np.float32), query)
        scores *= steps
        error = steps * np.float32(min(sqrt(self.dimensions) / 2, MOST_STEPS))
        return scores - error, scores + error

    @classmethod
    def _around_their_mean(
        cls, codes: NDArray[np.int8], steps: Floats, vectors: Floats
    ) -> "CodedVectors":
        centre = vectors.mean(axis=0, dtype=np.float32)
        sides = vectors - centre
        apart = np.linalg.norm(sides, axis=1)
        radii = np.linspace(apart.min(), apart.max(), LEVELS, dtype=np.float32)
        width = (radii[-1] - radii[0]) / (LEVELS - 1) or 1
        levels = np.rint((apart - radii[0]) / width).astype(np.intp)
        order = np.argsort(levels, kind="stable").astype(PLACE)
        return cls(
            codes=codes,
            steps=steps,
            signs=np.ascontiguousarray(signs_of(sides)[:, order]),
            order=order,
            members=np.bincount(levels, minlength=LEVELS).astype(COUNT),
            radii=radii,
            centre=centre,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A query as it lies about one block's centre: the signs of their difference, its length, what each cosine has."""

    signs: NDArray[np.uint64]
    radius: np.float32
    shift: np.float32


def asked_of(query: Vector, parts: Sequence[CodedVectors]) -> list[Asked]:
    """Return how a query lies to each of these."""
    centres = np.stack([part.centre for part in parts])
    sides = query - centres
    each = zip(
        signs_of(sides).T,
        np.linalg.norm(sides, axis=1),
        np.vecdot(sides, centres) + (1 + np.vecdot(centres, centres)) / 2,
        strict=True,
    )
    return [
        Asked(signs=signs, radius=radius, shift=shift) for signs, radius, shift in each
    ]


def coded_bytes(dimensions: int) -> int:
    """Return what a row takes: a byte and a bit a dimension, its step and its place."""
    each = dimensions + WORD.itemsize * words_of(dimensions)
    return each + STORED.itemsize + PLACE.itemsize


def block_bytes(dimensions: int) -> int:
    """Return what a block takes beside its rows."""
    return STORED.itemsize * (dimensions + LEVELS) + COUNT.itemsize * LEVELS


def words_of(dimensions: int) -> int:
    return -(-dimensions // 64)


def signs_of(sides: Floats) -> NDArray[np.uint64]:
    """Return a bit for each number above zero: of (n, d), words (d / 64, n)."""
    bits = np.packbits(sides > 0, axis=1)
    words = np.zeros((len(sides), words_of(sides.shape[1])), dtype=WORD)
    words.view(np.uint8)[:, : bits.shape[1]] = bits
    return np.ascontiguousarray(words.T)


@lru_cache(maxsize=16)
def likely_cosines(dimensions: int) -> Floats:
    """Return the most that the cosine of two vectors is likely to be, where all signs differ, all but one, … none.

    The share that differs is their angle over pi; it scatters as a share of so many draws does.
    """
    share = np.arange(dimensions, -1, -1) / dimensions
    deviation = np.pi * np.sqrt(share * (1 - share) / dimensions)
    cosines = np.cos(np.pi * share)
    cosines += LIKELY_DEVIATIONS * np.sin(np.pi * share) * deviation
    return np.maximum.accumulate(cosines).astype(np.float32)
