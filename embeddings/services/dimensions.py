"""Sizes and lengths of vectors. Pure numpy."""

import numpy as np

from embeddings.services.types import DimensionsPolicy
from providers.base import Vectors


def normalised(vectors: Vectors) -> Vectors:
    """Return `vectors`, float32 (n, d), scaled to unit length; a zero vector stays zero.

    Norms are taken in float64, which holds the square of every float32, so that neither 1e30 nor 1e-30 is lost.
    """
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    norms[norms == 0.0] = 1.0
    unit: Vectors = np.empty(vectors.shape, np.float32)
    np.divide(vectors, norms[:, None], out=unit, dtype=np.float64, casting="same_kind")
    return unit


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
