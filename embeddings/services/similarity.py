"""Vectors compared: cosines, the nearest pairs, and a map in two dimensions. Pure functions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from providers.base import Vectors

# How nearly two coordinates are the same size: which of them is the larger must not hang on rounding.
TIE = 1e-6
# So many rows at most say where the axes of a map lie.
MOST_SOLVED = 100
SQUARINGS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two rows, `first` < `second`, and their cosine."""

    first: int
    second: int
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """`points`: float64 (n, 2). `share`: of the variance that they show, 0 to 1; 1 where there is none."""

    points: NDArray[np.float64]
    share: float


def cosines(vectors: Vectors) -> NDArray[np.float64]:
    """Return the cosine of each row with each, float64 (n, n), within -1 and 1; 0 with a row of zeros."""
    rows = vectors.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    found: NDArray[np.float64] = np.clip(_products(rows), -1.0, 1.0)
    return found


def nearest_pairs(cosine: NDArray[np.float64], limit: int) -> list[Pair]:
    """Return the pairs of rows with the highest cosines, best first; equals in the order of the rows."""
    pairs = sorted(_pairs(cosine), key=lambda pair: -pair.cosine)
    return pairs[:limit]


def projected(vectors: Vectors) -> Projection:
    """Return where the rows lie on their two principal components (PCA).

    The same rows give the same picture: of each axis, the first of the points farthest out is on its positive side.
    Of more than MOST_SOLVED rows, as many, evenly spread, say where the axes lie.
    """
    rows = vectors.astype(np.float64)
    points = np.zeros((len(rows), 2))
    centred = rows - rows.mean(axis=0) if len(rows) else rows
    variance = float((centred**2).sum())
    # Rows that differ by rounding alone have no direction.
    if len(rows) < 2 or variance <= 1e-10 * float((rows**2).sum()):
        return Projection(points=points, share=1.0)
    for number, axis in enumerate(_axes(centred)):
        points[:, number] = _turned(np.vecdot(centred, axis))
    return Projection(
        points=points, share=min(1.0, float((points**2).sum()) / variance)
    )


def _axes(centred: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield the principal axes, each of length 1: two, or as many as there are."""
    count = min(len(centred), MOST_SOLVED)
    some = centred[np.arange(count) * len(centred) // count]
    gram = _products(some)
    least = 1e-12 * np.trace(gram)
    for _ in range(min(2, count - 1)):
        weights = _eigenvector(gram)
        value = np.vecdot(weights, np.vecdot(gram, weights))
        if value > least:
            yield np.vecdot(some.T, weights) / np.sqrt(value)
        gram = gram - value * np.outer(weights, weights)


def _eigenvector(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return that of the largest eigenvalue, length 1, by powers: of values that are nearly equal, a mix."""
    power = gram
    for _ in range(SQUARINGS):
        power = _products(power / (np.trace(power) or 1.0))
    vector = power[np.argmax(np.diagonal(power))]
    found: NDArray[np.float64] = vector / (np.linalg.norm(vector) or 1.0)
    return found


def _products(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inner product of each row with each.

    Not by `@` or numpy.linalg: OpenBLAS would spread them over all cores, and its threads would wait for each other
    while others compute there: on two busy cores, two seconds in place of a hundredth for the map of 300 rows.
    """
    found: NDArray[np.float64] = np.vecdot(rows[:, None], rows[None])
    return found


def _turned(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    sizes = np.abs(axis)
    farthest = int(np.argmax(sizes >= sizes.max() * (1 - TIE)))
    return -axis if axis[farthest] < 0 else axis


def _pairs(cosine: NDArray[np.float64]) -> Iterator[Pair]:
    for first, second in zip(*np.triu_indices(len(cosine), k=1), strict=True):
        value = float(cosine[first, second])
        yield Pair(first=int(first), second=int(second), cosine=value)
