"""Pool and normalise token vectors in numpy, for ONNX files that a repo ships without a head. numpy only.

The rules are sentence-transformers' (Pooling and Normalize modules), for texts padded on the right.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from providers.base import Vectors

Mask = NDArray[np.int64]


def pool(tokens: Vectors, mask: Mask, modes: tuple[str, ...]) -> Vectors:
    """Pool float32 (batch, length, hidden) to (batch, hidden x modes), ignoring places where `mask` is 0."""
    return np.concatenate([_MODES[mode](tokens, mask) for mode in modes], axis=1)


def normalize(vectors: Vectors) -> Vectors:
    """Scale rows to unit length; a zero row stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def _cls(tokens: Vectors, mask: Mask) -> Vectors:
    return tokens[:, 0]


def _max(tokens: Vectors, mask: Mask) -> Vectors:
    return np.asarray(
        np.where(mask[:, :, None] == 0, -np.inf, tokens).max(axis=1), dtype=np.float32
    )


def _mean(tokens: Vectors, mask: Mask) -> Vectors:
    return _weighted(tokens, mask.astype(np.float32)) / _lengths(mask)


def _mean_sqrt_len(tokens: Vectors, mask: Mask) -> Vectors:
    roots: Vectors = np.sqrt(_lengths(mask)).astype(np.float32)
    return _weighted(tokens, mask.astype(np.float32)) / roots


def _weighted_mean(tokens: Vectors, mask: Mask) -> Vectors:
    weights: Vectors = (mask.cumsum(axis=1) * mask).astype(np.float32)
    totals: Vectors = weights.sum(axis=1, keepdims=True)
    return _weighted(tokens, weights) / totals


def _last_token(tokens: Vectors, mask: Mask) -> Vectors:
    last: Vectors = tokens[np.arange(len(tokens)), mask.sum(axis=1) - 1]
    return last


def _lengths(mask: Mask) -> Vectors:
    lengths: Vectors = mask.sum(axis=1, keepdims=True).astype(np.float32)
    return lengths


def _weighted(tokens: Vectors, weights: Vectors) -> Vectors:
    return np.asarray((weights[:, None, :] @ tokens)[:, 0], dtype=np.float32)


_MODES: Mapping[str, Callable[[Vectors, Mask], Vectors]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last_token,
}
