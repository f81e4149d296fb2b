"""What a model does with its token vectors, as nodes: pooling, dense layers, normalising. onnx and numpy only.

The rules are sentence-transformers' (Pooling, Dense and Normalize modules), for texts padded on the right.
"""

import numpy as np
from onnx import TensorProto

from providers.engine.graph.checkpoint import Linear
from providers.engine.graph.config import GraphConfig
from providers.engine.graph.nodes import Nodes
from providers.engine.graph.parts import activate, product


def write_head(
    nodes: Nodes, config: GraphConfig, tokens: str, dense: list[Linear]
) -> None:
    """Write `sentence_embedding`, float32 (batch, dimensions), from token vectors; `dense` as in the config."""
    x = _pooled(nodes, config.pooling, tokens)
    for index, (layer, settings) in enumerate(zip(dense, config.dense, strict=True)):
        name = f"dense.{index}"
        x = activate(nodes, product(nodes, x, name, layer), settings.activation)
    if config.normalize:
        # torch's normalize divides by max(norm, 1e-12), so a zero vector stays zero.
        norm = nodes.node("ReduceL2", [x, nodes.integers(1)], "norm", keepdims=1)
        floor = nodes.parameter("norm.floor", np.array([1e-12], np.float32))
        divisor = nodes.node("Max", [norm, floor], "norm.floored")
        x = nodes.node("Div", [x, divisor], "normalized")
    nodes.node("Identity", [x], "sentence_embedding")


def _pooled(nodes: Nodes, modes: tuple[str, ...], tokens: str) -> str:
    makers = {
        "cls": _first,
        "max": _maximum,
        "mean": _mean,
        "mean_sqrt_len_tokens": _mean_sqrt_len,
        "weightedmean": _weighted_mean,
        "lasttoken": _last_token,
    }
    nodes.node("ReduceSum", ["mask.float", nodes.integers(1)], "lengths", keepdims=1)
    pooled = [makers[mode](nodes, tokens) for mode in modes]
    return (
        pooled[0]
        if len(pooled) == 1
        else nodes.node("Concat", pooled, "pooled", axis=1)
    )


def _first(nodes: Nodes, x: str) -> str:
    zero = nodes.parameter("zero", np.array(0, np.int64))
    return nodes.node("Gather", [x, zero], "pooled.cls", axis=1)


def _maximum(nodes: Nodes, x: str) -> str:
    column = nodes.node("Unsqueeze", ["mask", nodes.integers(2)], "mask.column")
    padding = nodes.node("Equal", [column, _int32(nodes, 0)], "mask.padding")
    lowest = nodes.parameter("lowest", np.array([-np.inf], np.float32))
    masked = nodes.node("Where", [padding, lowest, x], "pooled.masked")
    return nodes.node(
        "ReduceMax", [masked, nodes.integers(1)], "pooled.max", keepdims=0
    )


def _mean(nodes: Nodes, x: str) -> str:
    total = _weighted_sum(nodes, x, "mask.float")
    return nodes.node("Div", [total, "lengths"], "pooled.mean")


def _mean_sqrt_len(nodes: Nodes, x: str) -> str:
    root = nodes.node("Sqrt", ["lengths"], "lengths.root")
    total = _weighted_sum(nodes, x, "mask.float")
    return nodes.node("Div", [total, root], "pooled.mean_sqrt_len")


def _weighted_mean(nodes: Nodes, x: str) -> str:
    axis = nodes.parameter("axis.scalar", np.array(1, np.int64))
    numbers = nodes.node("CumSum", ["mask.float", axis], "mask.numbers")
    weights = nodes.node("Mul", [numbers, "mask.float"], "mask.weights")
    divisor = nodes.node(
        "ReduceSum", [weights, nodes.integers(1)], "mask.weights.total", keepdims=1
    )
    total = _weighted_sum(nodes, x, weights)
    return nodes.node("Div", [total, divisor], "pooled.weightedmean")


def _last_token(nodes: Nodes, x: str) -> str:
    counted = nodes.node(
        "ReduceSum", ["mask", nodes.integers(1)], "mask.count", keepdims=1
    )
    last = nodes.node("Sub", [counted, _int32(nodes, 1)], "mask.last")
    index = nodes.node("Cast", [last], "mask.last64", to=TensorProto.INT64)
    return nodes.node("GatherND", [x, index], "pooled.lasttoken", batch_dims=1)


def _weighted_sum(nodes: Nodes, x: str, weights: str) -> str:
    """Sum over tokens, (batch, hidden), as one product of (1, length) and (length, hidden) per text."""
    row = nodes.node("Unsqueeze", [weights, nodes.integers(1)], f"{weights}.row")
    product = nodes.node("MatMul", [row, x], f"{weights}.product")
    return nodes.node("Squeeze", [product, nodes.integers(1)], f"{weights}.sum")


def _int32(nodes: Nodes, value: int) -> str:
    return nodes.parameter(f"int32.{value}", np.array([value], np.int32))
