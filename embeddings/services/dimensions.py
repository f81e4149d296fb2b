"""Sizes and lengths of vectors. Pure numpy."""

import math

import numpy as np

from embeddings.conf import DimensionsPolicy
from providers.base import Vectors

# As many rows at a time as stay in the processor's cache when they are wide.
BLOCK_ROWS = 64
# Below any norm that float32 can have but 0, which it keeps from being divided by.
LEAST_NORM = 1e-60
# How far the square of a length may be from 1 for the vector to be left as it is: float32 is hardly finer.
UNIT = 1e-6


def normalised(vectors: Vectors) -> Vectors:
    """Return `vectors`, float32 (n, d), scaled to unit length; a zero vector stays zero, one of unit length as it is.

    The array itself comes back where there is nothing to scale. Norms are taken in float64, which holds the square of
    every float32, so that neither 1e30 nor 1e-30 is lost.
    """
    if len(vectors) == 1:
        return _normalised_row(vectors[0])[np.newaxis]
    unit = vectors
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        wide = vectors[block].astype(np.float64)
        squares = np.vecdot(wide, wide)
        squares[np.abs(squares - 1) <= UNIT] = 1
        if (squares == 1).all():
            continue
        if unit is vectors:
            unit = vectors.copy()
        unit[block] = wide / np.maximum(np.sqrt(squares), LEAST_NORM)[:, None]
    return unit


def _normalised_row(row: Vectors) -> Vectors:
    """Do the same, bit for bit, in half the steps: each is a good part of a small request."""
    wide = row.astype(np.float64)
    square = wide.dot(wide)
    if abs(square - 1) <= UNIT:
        return row
    wide /= math.sqrt(square) or 1.0
    return wide.astype(np.float32)


def resized(vectors: Vectors, dimensions: int, policy: DimensionsPolicy) -> Vectors:
    """Return `vectors` cut or zero-padded to `dimensions` as far as `policy` allows; not renormalised."""
    size = vectors.shape[1]
    if dimensions < size and policy != "ignore":
        return vectors[:, :dimensions]
    if dimensions > size and policy == "pad":
        return np.pad(vectors, ((0, 0), (0, dimensions - size)))
    return vectors


def policy_applied(
    *, asked: int | None, native: int | None, answered: int
) -> DimensionsPolicy | None:
    """Say what was done to an answer of `answered` dimensions by a model whose own size is `native`.

    None if no size was asked for. A model of unknown size was left as it is if it did not answer what was asked.
    """
    if asked is None:
        return None
    size = native or answered
    if answered < size:
        return "reduce"
    return "pad" if answered > size else "ignore"
