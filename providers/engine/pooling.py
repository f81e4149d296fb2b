"""A model's head in numpy: pooling, dense layers, normalising, for ONNX files that answer token vectors. numpy only.

The rules are sentence-transformers' (Pooling, Dense and Normalize modules), for texts padded on the right.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from providers.base import Vectors

Mask = NDArray[np.int64]


def pool(
    tokens: Vectors,
    mask: Mask,
    modes: tuple[str, ...],
    prompt_tokens: Mask | None = None,
) -> Vectors:
    """Pool float32 (batch, length, hidden) to (batch, hidden x modes), ignoring places where `mask` is 0.

    `prompt_tokens`, int64 (batch,), says how many places at the start of each text are left out, too.
    """
    kept = mask
    if prompt_tokens is not None:
        kept = mask * (np.arange(mask.shape[1]) >= prompt_tokens[:, None])
    pooled = [_MODES[mode](tokens, mask, kept) for mode in modes]
    return np.concatenate(pooled, axis=1)


def activate(vectors: Vectors, kind: str) -> Vectors:
    """Apply a dense layer's activation, named as torch does."""
    return np.asarray(_ACTIVATIONS[kind](vectors), dtype=np.float32)


def project(
    vectors: Vectors, weight: Vectors, bias: Vectors | None, activation: str
) -> Vectors:
    """Put vectors (n, in) through a dense layer: weight (in, out), bias (out,) or none."""
    product = vectors @ weight
    return activate(product if bias is None else product + bias, activation)


def normalize(vectors: Vectors) -> Vectors:
    """Scale rows to unit length; a zero row stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def _cls(tokens: Vectors, mask: Mask, kept: Mask) -> Vectors:
    first: Vectors = tokens[np.arange(len(tokens)), kept.argmax(axis=1)]
    return first


def _max(tokens: Vectors, mask: Mask, kept: Mask) -> Vectors:
    return np.asarray(
        np.where(kept[:, :, None] == 0, -np.inf, tokens).max(axis=1), dtype=np.float32
    )


def _mean(tokens: Vectors, mask: Mask, kept: Mask) -> Vectors:
    return _weighted(tokens, kept.astype(np.float32)) / _lengths(kept)


def _mean_sqrt_len(tokens: Vectors, mask: Mask, kept: Mask) -> Vectors:
    roots: Vectors = np.sqrt(_lengths(kept)).astype(np.float32)
    return _weighted(tokens, kept.astype(np.float32)) / roots


def _weighted_mean(tokens: Vectors, mask: Mask, kept: Mask) -> Vectors:
    # What is left out keeps its number: the first place after a prompt does not count as the first.
    weights: Vectors = (mask.cumsum(axis=1) * kept).astype(np.float32)
    totals: Vectors = np.maximum(weights.sum(axis=1, keepdims=True), _LEAST)
    return _weighted(tokens, weights) / totals


def _last_token(tokens: Vectors, mask: Mask, kept: Mask) -> Vectors:
    last: Vectors = tokens[np.arange(len(tokens)), mask.sum(axis=1) - 1]
    return last


def _lengths(kept: Mask) -> Vectors:
    lengths: Vectors = kept.sum(axis=1, keepdims=True).astype(np.float32)
    return np.asarray(np.maximum(lengths, _LEAST), dtype=np.float32)


def _weighted(tokens: Vectors, weights: Vectors) -> Vectors:
    return np.asarray((weights[:, None, :] @ tokens)[:, 0], dtype=np.float32)


_LEAST = np.float32(1e-9)
_MODES: Mapping[str, Callable[[Vectors, Mask, Mask], Vectors]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last_token,
}
_error_function = np.frompyfunc(math.erf, 1, 1)
_ACTIVATIONS: Mapping[str, Callable[[Vectors], NDArray[np.generic]]] = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0),
    "GELU": lambda x: x * (1 + _error_function(x / math.sqrt(2)).astype(float)) / 2,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}
