"""An encoder with rotary positions as nodes: local and global attention, gated feed-forward layers.

onnx and numpy only. The formulas are those of transformers' classes, which `rotary_config` names.
"""

import numpy as np

from providers.engine.graph.attention import Attention
from providers.engine.graph.checkpoint import Array, Norm
from providers.engine.graph.nodes import FUSED, Nodes
from providers.engine.graph.parts import (
    Projections,
    by_text,
    normalized,
    reshape,
    root_normalized,
    rows,
)
from providers.engine.graph.rotary_checkpoint import RotaryCheckpoint
from providers.engine.graph.rotary_config import RotaryConfig


class RotaryEncoder:
    """Writes the encoder's layers; `write` returns the name of the token vectors, float32 (batch, length, hidden)."""

    def __init__(
        self, nodes: Nodes, config: RotaryConfig, projections: Projections
    ) -> None:
        self._nodes = nodes
        self._config = config
        self._projections = projections
        self._mixing = Attention(nodes, config, config.positions)
        self._rotations: dict[str, tuple[str, str]] = {}

    def write(self, checkpoint: RotaryCheckpoint) -> str:
        """Write everything from `input_ids` to the token vectors."""
        nodes = self._nodes
        self._mixing.write_masks()
        self._rotations = {
            kind: self._tables(kind) for kind in dict.fromkeys(self._config.kinds)
        }
        words = nodes.parameter("words", checkpoint.words())
        embedded = nodes.node("Gather", [words, "ids"], "words.taken")
        x = reshape(nodes, embedded, rows(nodes, self._config.hidden))
        x = self._normalized(x, checkpoint.embeddings_norm(), "embeddings")
        for layer in range(len(self._config.kinds)):
            x = self._attention(checkpoint, layer, x)
            x = self._feed_forward(checkpoint, layer, x)
        x = self._normalized(x, checkpoint.final_norm(), "final")
        return reshape(nodes, x, by_text(nodes))

    def _tables(self, kind: str) -> tuple[str, str]:
        """Return the cosines and sines of a kind of layers."""
        config = self._config
        cosines, sines = rotations(
            config.thetas[kind], config.head_size, config.positions
        )
        return (
            self._nodes.parameter(f"rotations.{kind}.cosines", cosines),
            self._nodes.parameter(f"rotations.{kind}.sines", sines),
        )

    def _attention(self, checkpoint: RotaryCheckpoint, layer: int, x: str) -> str:
        nodes, config, name = self._nodes, self._config, f"layer.{layer}.attention"
        norms = dict(config.names.attention_norms)
        if config.bare_first and layer == 0:
            norms.pop("before", None)
        before = checkpoint.layer_norm(layer, norms.get("before"))
        taken = self._normalized(x, before, name)
        parts = checkpoint.linears(layer, ("query", "key", "value"))
        query, key, value = self._projections.project(nodes, taken, name, parts)
        mixed = self._mixing.write(
            f"{name}.mixed",
            config.kinds[layer],
            self._rotated(checkpoint, layer, query, "query"),
            self._rotated(checkpoint, layer, key, "key"),
            reshape(nodes, value, by_text(nodes)),
        )
        mixed = reshape(nodes, mixed, rows(nodes, config.heads * config.head_size))
        output = checkpoint.linears(layer, ("output",))
        [answer] = self._projections.project(nodes, mixed, name, output)
        return self._onto(
            x,
            answer,
            checkpoint.layer_norm(layer, norms.get("answer")),
            checkpoint.layer_norm(layer, norms.get("sum")),
        )

    def _feed_forward(self, checkpoint: RotaryCheckpoint, layer: int, x: str) -> str:
        name, norms = f"layer.{layer}", self._config.names.feed_forward_norms
        before = checkpoint.layer_norm(layer, norms.get("before"))
        taken = self._normalized(x, before, name)
        parts = checkpoint.linears(layer, ("gate", "up", "down"))
        answer = self._projections.gated(
            self._nodes, taken, name, **parts, activation=self._config.activation
        )
        return self._onto(
            x,
            answer,
            checkpoint.layer_norm(layer, norms.get("answer")),
            checkpoint.layer_norm(layer, norms.get("sum")),
        )

    def _onto(
        self, residual: str, x: str, answer: Norm | None, total: Norm | None
    ) -> str:
        """Write x = total(residual + answer(x)), where the two are norms or nothing."""
        x = self._normalized(x, answer, f"{x}.answer")
        added = self._nodes.node("Add", [x, residual], f"{x}.total")
        return self._normalized(added, total, f"{x}.total")

    def _normalized(self, x: str, norm: Norm | None, name: str) -> str:
        if norm is None:
            return x
        epsilon = self._config.epsilon
        if self._config.rms:
            return root_normalized(self._nodes, x, norm.scale, name, epsilon)
        return normalized(self._nodes, x, norm, name, epsilon)

    def _rotated(
        self, checkpoint: RotaryCheckpoint, layer: int, x: str, part: str
    ) -> str:
        """Write queries or keys, normalised by head where the architecture does so, turned by their positions."""
        nodes, config = self._nodes, self._config
        norm = checkpoint.layer_norm(layer, config.names.head_norms.get(part))
        if norm is not None:
            heads = nodes.node(
                "Reshape", [x, rows(nodes, config.head_size)], f"{x}.heads"
            )
            x = self._normalized(heads, norm, x)
        placed = reshape(nodes, x, by_text(nodes))
        tables = self._rotations[config.kinds[layer]]
        return nodes.node(
            "RotaryEmbedding",
            [placed, nodes.integers(0), *tables],
            f"{x}.rotated",
            FUSED,
        )


def rotations(theta: float, head_size: int, positions: int) -> tuple[Array, Array]:
    """Return the cosines and sines of each position's angles, float32 (positions, head_size / 2).

    Angles are rounded to float32 as transformers' compute_default_rope_parameters does; at position 8,000 that is
    more than what separates two neighbours' slowest angles.
    """
    exponents = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
    frequencies = np.float32(1) / np.float32(theta) ** exponents
    angles = np.arange(positions, dtype=np.float32)[:, None] * frequencies
    exact = angles.astype(np.float64)
    return np.cos(exact).astype(np.float32), np.sin(exact).astype(np.float32)
