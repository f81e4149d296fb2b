"""Attention of encoders that read long texts: whole for short ones, in pieces for long ones. onnx and numpy.

All at once, attention holds heads * length * length numbers: 3 GB for 12 heads and 8,192 tokens. Beyond LONG tokens,
queries are taken piece by piece, each with the keys that it can see: memory then grows with the length, and so does the
work of local layers.
"""

import numpy as np
from onnx import GraphProto, TensorProto, helper

from providers.engine.graph.heads import SLIDING, Heads
from providers.engine.graph.nodes import Nodes
from providers.engine.graph.parts import write_masks

# From where on pieces are worth what a loop costs, and the queries of a piece; local layers' are twice their window.
LONG, _PIECE, _LEAST_PIECE = 1024, 256, 128


class Attention:
    """Writes each layer's attention, and once what all of them add to the products of queries and keys."""

    def __init__(self, nodes: Nodes, config: Heads) -> None:
        self._nodes = nodes
        self._config = config
        self._masks: dict[str, str] = {}

    def write_masks(self) -> None:
        """Write the masks of short texts, and what those of pieces are made of."""
        nodes = self._nodes
        keys = write_masks(nodes)
        length = nodes.node("Shape", ["ids"], "length", start=1)
        scalar = nodes.node("Squeeze", [length], "length.scalar")
        nodes.node("Greater", [scalar, self._scalar(LONG)], "length.long")
        zero, one = self._scalar(0), self._scalar(1)
        numbers = nodes.node("Range", [zero, scalar, one], "numbers")
        # Of a long text only the beginning: there, nobody takes these masks.
        first, end = nodes.integers(0), nodes.integers(LONG)
        axis = nodes.integers(3)
        keys = nodes.node("Slice", [keys, first, end, axis], "mask.keys.short")
        numbers = nodes.node("Slice", [numbers, first, end], "numbers.short")
        for kind in dict.fromkeys(self._config.kinds):
            self._masks[kind] = self._added(
                nodes, kind, keys, (numbers, numbers), f"mask.{kind}", causal=False
            )

    def write(self, name: str, kind: str, query: str, key: str, value: str) -> str:
        """Write attention under `name`; all are float32 (batch, length, heads * channels)."""
        values = (query, key, value)
        whole = self._nodes.body()
        mixed = self._attention(
            whole, f"{name}.whole", [*values, self._masks[kind]], causal=True
        )
        return self._nodes.node(
            "If",
            ["length.long"],
            name,
            then_branch=self._in_pieces(name, kind, *values),
            else_branch=whole.graph([mixed]),
        )

    def _attention(
        self, nodes: Nodes, name: str, inputs: list[str], *, causal: bool
    ) -> str:
        config = self._config
        return nodes.node(
            "Attention",
            inputs,
            name,
            q_num_heads=config.heads,
            kv_num_heads=config.key_heads,
            scale=config.scale,
            is_causal=int(causal and config.causal),
        )

    def _added(
        self,
        nodes: Nodes,
        kind: str,
        keys: str,
        numbers: tuple[str, str],
        name: str,
        *,
        causal: bool,
    ) -> str:
        """Write what is added for these keys, (batch, 1, 1, keys), and the numbers of these queries and keys.

        `causal`: also for keys behind a query, where the architecture does not see them.
        """
        hidden = []
        behind = nodes.node(
            "Sub", [numbers[1], self._column(nodes, numbers[0], name)], f"{name}.behind"
        )
        if kind == SLIDING:
            apart = nodes.node("Abs", [behind], f"{name}.apart")
            window = self._scalar(self._config.window)
            hidden.append(nodes.node("Greater", [apart, window], f"{name}.far"))
        if causal and self._config.causal:
            zero = self._scalar(0)
            hidden.append(nodes.node("Greater", [behind, zero], f"{name}.later"))
        if not hidden:
            shape = nodes.node("Shape", [behind], f"{name}.shape")
            return nodes.node("Expand", [keys, shape], name)
        if len(hidden) > 1:
            hidden = [nodes.node("Or", hidden, f"{name}.hidden")]
        lowest = nodes.parameter("padding", np.array(-1e9, np.float32))
        nothing = nodes.parameter("nothing", np.array(0, np.float32))
        lowered = nodes.node("Where", [*hidden, lowest, nothing], f"{name}.lowered")
        return nodes.node("Add", [keys, lowered], name)

    def _in_pieces(
        self, name: str, kind: str, query: str, key: str, value: str
    ) -> GraphProto:
        """Return the graph that takes the queries of a long text piece by piece."""
        nodes = self._nodes.body()
        piece = self._piece(kind)
        size, most = self._scalar(piece), self._scalar(piece - 1)
        raised = nodes.node("Add", ["length.scalar", most], f"{name}.raised")
        pieces = nodes.node("Div", [raised, size], f"{name}.pieces")
        filled = nodes.node("Mul", [pieces, size], f"{name}.filled")
        missing = nodes.node("Sub", [filled, "length"], f"{name}.missing")
        before, after = nodes.integers(0, 0, 0, 0), nodes.integers(0)
        pads = nodes.node("Concat", [before, missing, after], f"{name}.pads", axis=0)
        padded = nodes.node("Pad", [query, pads], f"{name}.padded")
        body = self._one_piece(f"{name}.piece", kind, padded, key, value)
        on = nodes.parameter("on", np.array(1, np.bool_))
        mixed = nodes.node("Loop", [pieces, on], f"{name}.all", body=body)
        by_text = nodes.node("Transpose", [mixed], f"{name}.rows", perm=[1, 0, 2, 3])
        shape = nodes.integers(0, -1, self._config.heads * self._config.head_size)
        joined = nodes.node("Reshape", [by_text, shape], f"{name}.joined")
        cut = [joined, nodes.integers(0), "length", nodes.integers(1)]
        return nodes.graph([nodes.node("Slice", cut, f"{name}.cut")])

    def _one_piece(
        self, name: str, kind: str, query: str, key: str, value: str
    ) -> GraphProto:
        """Return the loop's body: the queries of one piece, with the keys that they can see."""
        nodes, config = self._nodes.body(), self._config
        size, window = nodes.integers(self._piece(kind)), nodes.integers(config.window)
        first, axis = nodes.integers(0), nodes.integers(1)
        number = nodes.node("Unsqueeze", [f"{name}.number", first], f"{name}.numbered")
        start = nodes.node("Mul", [number, size], f"{name}.start")
        end = nodes.node("Add", [start, size], f"{name}.end")
        taken = nodes.node("Slice", [query, start, end, axis], f"{name}.query")
        seen_from, seen_to = first, "length"
        if kind == SLIDING:
            near = nodes.node("Sub", [start, window], f"{name}.near")
            seen_from = nodes.node("Max", [near, first], f"{name}.seen_from")
            far = nodes.node("Add", [end, window], f"{name}.far_end")
            seen_to = nodes.node("Min", [far, "length"], f"{name}.seen_to")
        if config.causal:
            seen_to = nodes.node("Min", [end, "length"], f"{name}.seen_before")
        ends = [seen_from, seen_to]
        keys = nodes.node("Slice", [key, *ends, axis], f"{name}.key")
        values = nodes.node("Slice", [value, *ends, axis], f"{name}.value")
        last = nodes.integers(3)
        mask = nodes.node("Slice", ["mask.keys", *ends, last], f"{name}.mask.keys")
        seen = nodes.node("Slice", ["numbers", *ends], f"{name}.seen")
        counted = nodes.parameter(
            f"numbers.{self._piece(kind)}", np.arange(self._piece(kind))
        )
        asking = nodes.node("Add", [counted, start], f"{name}.asking")
        added = self._added(
            nodes, kind, mask, (asking, seen), f"{name}.added", causal=True
        )
        inputs = [taken, keys, values, added]
        mixed = self._attention(nodes, f"{name}.mixed", inputs, causal=False)
        on = nodes.node("Identity", [f"{name}.on"], f"{name}.on.still")
        inputs_of_loop = [
            helper.make_tensor_value_info(f"{name}.number", TensorProto.INT64, []),
            helper.make_tensor_value_info(f"{name}.on", TensorProto.BOOL, []),
        ]
        return nodes.graph([on, mixed], inputs_of_loop)

    def _piece(self, kind: str) -> int:
        """Return how many queries are taken at a time."""
        if kind == SLIDING:
            return max(2 * self._config.window, _LEAST_PIECE)
        return _PIECE

    def _column(self, nodes: Nodes, numbers: str, name: str) -> str:
        return nodes.node("Unsqueeze", [numbers, nodes.integers(1)], f"{name}.asking")

    def _scalar(self, value: int) -> str:
        return self._nodes.parameter(f"scalar.{value}", np.array(value, np.int64))
