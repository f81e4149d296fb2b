"""Sizes and lengths of vectors. Pure numpy."""

import numpy as np

from embeddings.services.types import DimensionsPolicy
from providers.base import Vectors


def normalised(vectors: Vectors) -> Vectors:
    """Return `vectors`, float32 (n, d), scaled to unit length; a zero vector stays zero.

    Norms are taken in float64 after scaling by the largest component, so that neither 1e30 nor 1e-30 is lost.
    """
    scale = np.max(np.abs(vectors), axis=1, keepdims=True, initial=0.0)
    scaled = np.divide(
        vectors, scale, out=np.zeros(vectors.shape, np.float64), where=scale > 0
    )
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    unit: Vectors = np.divide(scaled, norms, out=scaled, where=norms > 0).astype(
        np.float32
    )
    return unit


def resized(vectors: Vectors, dimensions: int, policy: DimensionsPolicy) -> Vectors:
    """Return `vectors` cut or zero-padded to `dimensions` as far as `policy` allows; not renormalised."""
    size = vectors.shape[1]
    if dimensions < size and policy != "ignore":
        return vectors[:, :dimensions]
    if dimensions > size and policy == "pad":
        return np.pad(vectors, ((0, 0), (0, dimensions - size)))
    return vectors


def policy_applied(*, native: int, answered: int) -> DimensionsPolicy:
    """Say what was done to an answer of `answered` dimensions by a model whose own size is `native`."""
    if answered < native:
        return "reduce"
    return "pad" if answered > native else "ignore"
