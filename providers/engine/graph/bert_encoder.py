"""A BERT-like encoder as nodes: absolute positions, norms after each sum, feed-forward layers without a gate.

onnx and numpy only.
"""

import math

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from providers.engine.graph.architectures import (
    BUCKETS,
    FARTHEST,
    HEADS,
    LAYERS,
    POSITIONS_AFTER_PADDING,
)
from providers.engine.graph.attention import Attention
from providers.engine.graph.bert_checkpoint import BertCheckpoint
from providers.engine.graph.checkpoint import Array, Norm
from providers.engine.graph.config import GraphConfig
from providers.engine.graph.heads import FULL, Heads
from providers.engine.graph.nodes import Nodes
from providers.engine.graph.parts import (
    Projections,
    by_text,
    distances,
    normalized,
    reshape,
    rows,
    write_masks,
)
from providers.engine.graph.settings import Unbuildable


class BertEncoder:
    """Writes the encoder's layers; `write` returns the name of the token vectors, float32 (batch, length, hidden)."""

    def __init__(
        self, nodes: Nodes, config: GraphConfig, projections: Projections
    ) -> None:
        self._nodes = nodes
        self._config = config
        self._projections = projections
        self._heads = config.size(*HEADS)
        self._layers = config.size(*LAYERS)
        if config.hidden % self._heads:
            raise Unbuildable(
                f"its {config.hidden} channels cannot be shared among {self._heads} attention heads"
            )
        # DistilBERT has no such setting; its modelling code says 1e-12.
        epsilon = config.encoder.get("layer_norm_eps", 1e-12)
        if not isinstance(epsilon, float | int) or not 0 <= epsilon < 1:
            raise Unbuildable("layer_norm_eps in its config.json is not a small number")
        self._epsilon = float(epsilon)
        self._mixing: Attention | None = None

    def write(self, checkpoint: BertCheckpoint) -> str:
        """Write everything from `input_ids` to the token vectors."""
        self._masks(checkpoint.relative_bias())
        embedded = self._embeddings(checkpoint)
        x = reshape(
            self._nodes, embedded, rows(self._nodes, checkpoint.words().shape[1])
        )
        for index in range(self._layers):
            x = self._attention(checkpoint, index, x)
            x = self._feed_forward(checkpoint, index, x)
        return reshape(self._nodes, x, by_text(self._nodes))

    def _masks(self, relative_bias: Array | None) -> None:
        """Write the mask as float32 (batch, length), and what attention adds: 0 for a token, a large negative else.

        A relative bias is added to that, by head.
        """
        if relative_bias is None:
            longest = (
                self._config.size("max_position_embeddings")
                - self._config.first_position
            )
            self._mixing = Attention(self._nodes, self._seen(), longest)
            self._mixing.write_masks()
            return
        keys, bias = write_masks(self._nodes), self._bias(relative_bias)
        self._nodes.node("Add", [keys, bias], "mask.added")

    def _seen(self) -> Heads:
        head_size = self._config.hidden // self._heads
        return Heads(
            heads=self._heads,
            key_heads=self._heads,
            head_size=head_size,
            kinds=(FULL,) * self._layers,
            scale=head_size**-0.5,
        )

    def _bias(self, table: Array) -> str:
        """Write the bias of each pair of tokens, float32 (heads, length, length): transformers' MPNetEncoder."""
        nodes, longest = self._nodes, self._config.size("max_position_embeddings")
        by_distance = table[buckets(np.arange(1 - longest, longest))].T
        stored = nodes.parameter("bias.by_distance", by_distance)
        nearest = nodes.integers(longest - 1)
        index = nodes.node("Add", [distances(nodes), nearest], "bias.index")
        return nodes.node("Gather", [stored, index], "bias", axis=1)

    def _embeddings(self, checkpoint: BertCheckpoint) -> str:
        nodes = self._nodes
        words = nodes.node(
            "Gather",
            [nodes.parameter("words", checkpoint.words()), "ids"],
            "embedded.words",
        )
        stored = nodes.parameter("positions", checkpoint.positions())
        if self._config.model_type in POSITIONS_AFTER_PADDING:
            places = [stored, self._positions_after_padding()]
            positions = nodes.node("Gather", places, "embedded.positions")
        else:
            length = nodes.node("Shape", ["ids"], "length", start=1)
            places = [stored, nodes.integers(0), length]
            positions = nodes.node("Slice", places, "embedded.positions")
        total = nodes.node("Add", [words, positions], "embedded.total")
        return normalized(
            nodes, total, checkpoint.embeddings_norm(), "embeddings", self._epsilon
        )

    def _positions_after_padding(self) -> str:
        """RoBERTa's positions: the count of non-padding ids so far, from pad + 1; padding ids keep `pad`."""
        nodes = self._nodes
        pad_id = self._config.first_position - 1
        pad = nodes.parameter("pad", np.array([pad_id], np.int32))
        same = nodes.node("Equal", ["ids", pad], "ids.padding")
        real = nodes.node("Not", [same], "ids.real")
        real = nodes.node("Cast", [real], "ids.real32", to=TensorProto.INT32)
        axis = nodes.parameter("axis.scalar", np.array(1, np.int64))
        counted = nodes.node("CumSum", [real, axis], "ids.counted")
        numbered = nodes.node("Mul", [counted, real], "ids.numbered")
        return nodes.node("Add", [numbered, pad], "position_ids")

    def _attention(self, checkpoint: BertCheckpoint, index: int, x: str) -> str:
        """Write x = norm(x + attention(x))."""
        nodes, name = self._nodes, f"layer.{index}.attention"
        inputs = checkpoint.attention_inputs(index)
        projected = self._projections.project(nodes, x, name, inputs)
        values = [reshape(nodes, value, by_text(nodes)) for value in projected]
        mixed = self._mixed(f"{name}.mixed", values)
        output = checkpoint.attention_output(index)
        mixed = reshape(nodes, mixed, rows(nodes, len(output.weight)))
        [attended] = self._projections.project(nodes, mixed, name, {"output": output})
        return self._onto(x, attended, checkpoint.attention_norm(index))

    def _mixed(self, name: str, values: list[str]) -> str:
        if self._mixing is not None:
            query, key, value = values
            return self._mixing.write(name, FULL, query, key, value)
        return self._nodes.node(
            "Attention",
            [*values, "mask.added"],
            name,
            q_num_heads=self._heads,
            kv_num_heads=self._heads,
        )

    def _feed_forward(self, checkpoint: BertCheckpoint, index: int, x: str) -> str:
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
        return normalized(self._nodes, total, norm, x, self._epsilon)


def buckets(apart: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row of a relative bias' table for each distance from a query to a key.

    Half of the rows are for keys behind the query. Of each half, one half is for a distance each, the other for
    distances that grow by the logarithm (arXiv:1910.10683), in float32 as MPNetEncoder computes it.
    """
    half = BUCKETS // 2
    exact = half // 2
    far = np.abs(apart)
    ratios = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(exact))
    steps = ratios / np.float32(math.log(FARTHEST / exact)) * np.float32(half - exact)
    grown = np.minimum(exact + steps.astype(np.int64), half - 1)
    return np.where(apart > 0, half, 0) + np.where(far < exact, far, grown)
