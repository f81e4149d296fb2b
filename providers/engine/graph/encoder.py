"""A BERT-family encoder as nodes: embeddings, attention, feed-forward layers. onnx and numpy only.

Standard operators wherever ONNX Runtime runs them faster than its fused ones (https://github.com/microsoft/onnxruntime/
blob/main/docs/ContribOperators.md): docs/performance.md has the measurements.
"""

from typing import Protocol

import numpy as np
from onnx import TensorProto

from providers.engine.checkpoint import Checkpoint, Linear, Norm
from providers.engine.graph.nodes import FUSED, Nodes
from providers.engine.model_config import POSITIONS_AFTER_PADDING, ModelConfig


class Projections(Protocol):
    """How the products with parameters are computed: in float32, or in int8."""

    def project(self, nodes: Nodes, x: str, name: str, linear: Linear) -> str:
        """Write `x @ weight + bias` under `name`."""

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


class Encoder:
    """Writes the encoder's layers; `write` returns the name of the token vectors, float32 (batch, length, hidden)."""

    def __init__(
        self, nodes: Nodes, config: ModelConfig, projections: Projections
    ) -> None:
        encoder = config.encoder
        self._nodes = nodes
        self._config = config
        self._projections = projections
        self._heads = int(encoder.get("num_attention_heads", encoder.get("n_heads", 0)))
        self._layers = int(encoder.get("num_hidden_layers", encoder.get("n_layers", 0)))
        # DistilBERT has no such setting; its modelling code says 1e-12.
        self._epsilon = float(encoder.get("layer_norm_eps", 1e-12))

    def write(self, checkpoint: Checkpoint) -> str:
        """Write everything from `input_ids` to the token vectors."""
        self._masks()
        x = self._embeddings(checkpoint)
        for index in range(self._layers):
            x = self._attention(checkpoint, index, x)
            x = self._feed_forward(checkpoint, index, x)
        return x

    def _masks(self) -> None:
        """Write the mask as float32 (batch, length), and what attention adds: 0 for a token, a large negative else."""
        nodes = self._nodes
        nodes.node("Cast", ["input_ids"], "ids", to=TensorProto.INT32)
        nodes.node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
        nodes.node("Cast", ["attention_mask"], "mask.float", to=TensorProto.FLOAT)
        one = nodes.parameter("one", np.array(1, np.float32))
        lowest = nodes.parameter("padding", np.array(-1e9, np.float32))
        missing = nodes.node("Sub", [one, "mask.float"], "mask.missing")
        added = nodes.node("Mul", [missing, lowest], "mask.lowered")
        nodes.node("Unsqueeze", [added, nodes.integers(1, 2)], "mask.added")

    def _embeddings(self, checkpoint: Checkpoint) -> str:
        nodes = self._nodes
        inputs = [
            "ids",
            "",
            nodes.parameter("words", checkpoint.words()),
            nodes.parameter("positions", checkpoint.positions()),
            "",
            *self._norm_parameters("embeddings", checkpoint.embeddings_norm()),
        ]
        if self._config.model_type in POSITIONS_AFTER_PADDING:
            inputs += ["", self._positions_after_padding()]
        return nodes.node(
            "EmbedLayerNormalization",
            inputs,
            "embedded",
            FUSED,
            more=("embedded.lengths",),
            epsilon=self._epsilon,
        )

    def _positions_after_padding(self) -> str:
        """RoBERTa's positions: the count of non-padding ids so far, from pad + 1; padding ids keep `pad`."""
        nodes = self._nodes
        pad_id = int(self._config.encoder.get("pad_token_id", 1))
        pad = nodes.parameter("pad", np.array([pad_id], np.int32))
        same = nodes.node("Equal", ["ids", pad], "ids.padding")
        real = nodes.node("Not", [same], "ids.real")
        real = nodes.node("Cast", [real], "ids.real32", to=TensorProto.INT32)
        axis = nodes.parameter("axis.scalar", np.array(1, np.int64))
        counted = nodes.node("CumSum", [real, axis], "ids.counted")
        numbered = nodes.node("Mul", [counted, real], "ids.numbered")
        return nodes.node("Add", [numbered, pad], "position_ids")

    def _attention(self, checkpoint: Checkpoint, index: int, x: str) -> str:
        """Write x = norm(x + attention(x)); queries arrive divided by the root of their size."""
        nodes, name = self._nodes, f"layer.{index}.attention"
        joint = _scaled_queries(checkpoint.attention_inputs(index), self._heads)
        projected = self._projections.project(nodes, x, f"{name}.inputs", joint)
        split = nodes.node(
            "Split",
            [projected],
            f"{name}.query",
            more=(f"{name}.key", f"{name}.value"),
            axis=2,
            num_outputs=3,
        )
        query = self._by_head(split, (0, 2, 1, 3))
        key = self._by_head(f"{name}.key", (0, 2, 3, 1))
        value = self._by_head(f"{name}.value", (0, 2, 1, 3))
        scores = nodes.node("MatMul", [query, key], f"{name}.scores")
        masked = nodes.node("Add", [scores, "mask.added"], f"{name}.masked")
        weights = nodes.node("Softmax", [masked], f"{name}.weights", axis=-1)
        mixed = nodes.node("MatMul", [weights, value], f"{name}.mixed")
        mixed = nodes.node(
            "Transpose", [mixed], f"{name}.transposed", perm=(0, 2, 1, 3)
        )
        hidden = joint.weight.shape[1] // 3
        mixed = nodes.node(
            "Reshape", [mixed, nodes.integers(0, 0, hidden)], f"{name}.joined"
        )
        output = checkpoint.attention_output(index)
        attended = self._projections.project(nodes, mixed, f"{name}.output", output)
        return self._onto(x, attended, checkpoint.attention_norm(index))

    def _by_head(self, x: str, order: tuple[int, int, int, int]) -> str:
        """Cut (batch, length, hidden) into heads, and bring (batch, length, head, size) into `order`."""
        shape = self._nodes.integers(0, 0, self._heads, -1)
        cut = self._nodes.node("Reshape", [x, shape], f"{x}.cut")
        return self._nodes.node("Transpose", [cut], f"{x}.by_head", perm=order)

    def _feed_forward(self, checkpoint: Checkpoint, index: int, x: str) -> str:
        lowered = self._projections.feed_forward(
            self._nodes,
            x,
            f"layer.{index}",
            checkpoint.inner(index),
            checkpoint.outer(index),
            self._config.activation,
        )
        return self._onto(x, lowered, checkpoint.outer_norm(index))

    def _onto(self, residual: str, x: str, norm: Norm) -> str:
        total = self._nodes.node("Add", [x, residual], f"{x}.total")
        return self._nodes.node(
            "LayerNormalization",
            [total, *self._norm_parameters(x, norm)],
            f"{x}.normalized",
            epsilon=self._epsilon,
        )

    def _norm_parameters(self, name: str, norm: Norm) -> tuple[str, str]:
        return (
            self._nodes.parameter(f"{name}.norm.scale", norm.scale),
            self._nodes.parameter(f"{name}.norm.shift", norm.shift),
        )


def activate(nodes: Nodes, x: str, kind: str) -> str:
    """Write an activation, named as transformers or torch call it."""
    operators = {
        "gelu": "Gelu",
        "gelu_python": "Gelu",
        "relu": "Relu",
        "sigmoid": "Sigmoid",
        "tanh": "Tanh",
    }
    if kind == "Identity":
        return x
    if kind in ("gelu_new", "gelu_pytorch_tanh"):
        return nodes.node("FastGelu", [x], f"{x}.active", FUSED)
    return nodes.node(operators[kind.lower()], [x], f"{x}.active")


def _scaled_queries(joint: Linear, heads: int) -> Linear:
    hidden = joint.weight.shape[1] // 3
    scale = np.ones(3 * hidden, np.float32)
    scale[:hidden] = 1 / np.sqrt(hidden / heads)
    return Linear(joint.weight * scale, joint.bias * scale)
