"""What encoders are written of: products, masks, norms, activations. onnx and numpy only.

Standard operators wherever ONNX Runtime runs them faster than its fused ones (https://github.com/microsoft/onnxruntime/
blob/main/docs/ContribOperators.md): docs/performance.md has the measurements. Between embeddings and pooling, all
tokens of a batch are rows of one matrix, (batch * length, channels).
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from onnx import TensorProto

from providers.engine.graph.architectures import ACTIVATIONS
from providers.engine.graph.checkpoint import Array, Linear, Norm
from providers.engine.graph.nodes import Nodes


class Projections(Protocol):
    """How the products with parameters are computed: in float32, or in int8."""

    def project(
        self, nodes: Nodes, x: str, name: str, linears: Mapping[str, Linear]
    ) -> list[str]:
        """Write `x @ weight + bias` for each of `linears`, under its key after `name`."""

    def feed_forward(
        self,
        nodes: Nodes,
        x: str,
        name: str,
        inner: Linear,
        outer: Linear,
        activation: str,
    ) -> str:
        """Write `activation(x @ inner) @ outer` under `name`."""

    def gated(
        self,
        nodes: Nodes,
        x: str,
        name: str,
        gate: Linear,
        up: Linear,
        down: Linear,
        activation: str,
    ) -> str:
        """Write `(activation(x @ gate) * (x @ up)) @ down` under `name`: GLU, arXiv:2002.05202."""


def write_masks(nodes: Nodes) -> str:
    """Write ids and mask as int32 `ids` and `mask`, float32 `mask.float`, all (batch, length).

    Return what attention adds to each key, float32 (batch, 1, 1, length): 0 for a token, a large negative else.
    """
    nodes.node("Cast", ["input_ids"], "ids", to=TensorProto.INT32)
    nodes.node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
    nodes.node("Cast", ["attention_mask"], "mask.float", to=TensorProto.FLOAT)
    one = nodes.parameter("one", np.array(1, np.float32))
    lowest = nodes.parameter("padding", np.array(-1e9, np.float32))
    missing = nodes.node("Sub", [one, "mask.float"], "mask.missing")
    lowered = nodes.node("Mul", [missing, lowest], "mask.lowered")
    return nodes.node("Unsqueeze", [lowered, nodes.integers(1, 2)], "mask.keys")


def distances(nodes: Nodes) -> str:
    """Write how far each key is behind each query, int64 (length, length)."""
    zero = nodes.parameter("zero", np.array(0, np.int64))
    one = nodes.parameter("axis.scalar", np.array(1, np.int64))
    length = nodes.node("Shape", ["ids"], "length", start=1)
    scalar = nodes.node("Squeeze", [length], "length.scalar")
    keys = nodes.node("Range", [zero, scalar, one], "numbers")
    queries = nodes.node("Unsqueeze", [keys, nodes.integers(1)], "numbers.queries")
    return nodes.node("Sub", [keys, queries], "distances")


def by_text(nodes: Nodes) -> str:
    """Return the shape (batch, length, channels)."""
    shape = nodes.node("Shape", ["ids"], "ids.shape")
    rest = nodes.integers(-1)
    return nodes.node("Concat", [shape, rest], "shape.by_text", axis=0)


def rows(nodes: Nodes, channels: int) -> str:
    """Return the shape (rows, channels)."""
    return nodes.integers(-1, channels)


def reshape(nodes: Nodes, x: str, shape: str) -> str:
    """Write `x` in another shape."""
    return nodes.node("Reshape", [x, shape], f"{x}.reshaped")


def normalized(nodes: Nodes, x: str, norm: Norm, name: str, epsilon: float) -> str:
    """Write layer normalisation over the last axis, its parameters under `name`."""
    return nodes.node(
        "LayerNormalization",
        [x, *norm_parameters(nodes, name, norm)],
        f"{name}.normalized",
        epsilon=epsilon,
    )


def root_normalized(
    nodes: Nodes, x: str, scale: Array, name: str, epsilon: float
) -> str:
    """Write RMS normalisation over the last axis (arXiv:1910.07467), its scale under `name`."""
    return nodes.node(
        "RMSNormalization",
        [x, nodes.parameter(f"{name}.norm.scale", scale)],
        f"{name}.normalized",
        epsilon=epsilon,
    )


def norm_parameters(nodes: Nodes, name: str, norm: Norm) -> list[str]:
    """Return a norm's scale, and its shift if it has one."""
    found = [nodes.parameter(f"{name}.norm.scale", norm.scale)]
    if norm.shift is not None:
        found.append(nodes.parameter(f"{name}.norm.shift", norm.shift))
    return found


def product(nodes: Nodes, x: str, name: str, linear: Linear) -> str:
    """Write `x @ weight + bias` in float32, under `name`."""
    inputs = [x, nodes.parameter(f"{name}.weight", linear.weight)]
    if linear.bias is not None:
        inputs.append(nodes.parameter(f"{name}.bias", linear.bias))
    return nodes.node("Gemm", inputs, name)


def activate(nodes: Nodes, x: str, kind: str) -> str:
    """Write an activation, named as transformers or torch call it."""
    if kind == "Identity":
        return x
    operator, domain, attributes = ACTIVATIONS[kind.lower()]
    return nodes.node(operator, [x], f"{x}.active", domain, **attributes)


def multiplied(nodes: Nodes, opened: str, raised: str, activation: str) -> str:
    """Write `activation(opened) * raised`."""
    return nodes.node(
        "Mul", [activate(nodes, opened, activation), raised], f"{opened}.multiplied"
    )
