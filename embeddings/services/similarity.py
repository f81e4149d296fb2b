"""Vectors compared: cosines, the nearest pairs, and a map in two dimensions. Pure functions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from providers.base import Vectors

# How nearly two coordinates are the same size: which of them is the larger must not hang on rounding.
TIE = 1e-6


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
    found: NDArray[np.float64] = np.clip(rows @ rows.T, -1.0, 1.0)
    return found


def nearest_pairs(cosine: NDArray[np.float64], limit: int) -> list[Pair]:
    """Return the pairs of rows with the highest cosines, best first; equals in the order of the rows."""
    pairs = sorted(_pairs(cosine), key=lambda pair: -pair.cosine)
    return pairs[:limit]


def projected(vectors: Vectors) -> Projection:
    """Return where the rows lie on their two principal components (PCA).

    The same rows give the same picture: of each axis, the first of the points farthest out is on its positive side.
    Takes time by the cube of the rows.
    """
    rows = vectors.astype(np.float64)
    points = np.zeros((len(rows), 2))
    centred = rows - rows.mean(axis=0) if len(rows) else rows
    variance = float((centred**2).sum())
    # Rows that differ by rounding alone have no direction.
    if len(rows) < 2 or variance <= 1e-10 * float((rows**2).sum()):
        return Projection(points=points, share=1.0)
    values, axes = np.linalg.eigh(centred @ centred.T)
    for axis in range(min(2, len(rows) - 1)):
        size = np.sqrt(max(values[-1 - axis], 0.0))
        points[:, axis] = _turned(axes[:, -1 - axis]) * size
    return Projection(
        points=points, share=min(1.0, float((points**2).sum()) / variance)
    )


def _turned(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    sizes = np.abs(axis)
    farthest = int(np.argmax(sizes >= sizes.max() * (1 - TIE)))
    return -axis if axis[farthest] < 0 else axis


def _pairs(cosine: NDArray[np.float64]) -> Iterator[Pair]:
    for first, second in zip(*np.triu_indices(len(cosine), k=1), strict=True):
        value = float(cosine[first, second])
        yield Pair(first=int(first), second=int(second), cosine=value)
