"""Attention of encoders: whole for short texts, in pieces for long ones. onnx and numpy.

All at once, attention holds heads * length * length numbers: 3 GB for 12 heads and 8,192 tokens. Beyond LONG tokens,
queries are taken piece by piece, each with the keys that it can see: memory then grows with the length, and so does the
work of local layers.

The fused operator that computes long texts in tiles takes no mask. So those that fill their batch, as one alone does,
have none where every token sees all others.
"""

import numpy as np
from onnx import GraphProto, TensorProto, helper

from providers.engine.graph.heads import FULL, SLIDING, Heads
from providers.engine.graph.nodes import FUSED, Nodes
from providers.engine.graph.parts import write_masks

# From where on pieces are worth what a loop costs, and the queries of a piece. Causal ones see half of the keys on
# average, so that both are half; local layers' pieces are twice their window.
LONG, _PIECE, _LEAST_PIECE = 512, 256, 128
# Without a mask. Where ONNX Runtime does not know the processor's cache, it computes no tiles: this bounds the memory.
_UNMASKED_PIECE = 1024
LENGTH = "length.scalar"


class Attention:
    """Writes each layer's attention, and once what all of them add to the products of queries and keys.

    `longest`: the tokens of the longest text.
    """

    def __init__(self, nodes: Nodes, config: Heads, longest: int) -> None:
        self._nodes = nodes
        self._config = config
        self._longest = longest
        self._masks: dict[str, str] = {}

    def write_masks(self) -> None:
        """Write the masks of short texts, and what those of pieces are made of."""
        nodes = self._nodes
        keys = write_masks(nodes)
        length = nodes.node("Shape", ["ids"], "length", start=1)
        nodes.node("Squeeze", [length], LENGTH)
        zero, step = self._scalar(0), self._scalar(1)
        numbers = nodes.node("Range", [zero, LENGTH, step], "numbers")
        if self._longest > LONG:
            least = nodes.node("ReduceMin", ["mask"], "mask.least", keepdims=0)
            one = nodes.parameter("one.int32", np.array(1, np.int32))
            nodes.node("Less", [least, one], "padded")
        for kind in dict.fromkeys(self._config.kinds):
            self._masks[kind] = self._mask(kind, keys, numbers)

    def _mask(self, kind: str, keys: str, numbers: str) -> str:
        """Write the mask of short texts for layers of this kind."""
        nodes, longest = self._nodes, self._longest_whole(kind)
        if self._longest > longest:
            bound = [LENGTH, self._scalar(longest)]
            nodes.node("Greater", bound, f"length.long.{kind}")
            # Of a long text only the beginning: there, nobody takes this mask.
            first, end = nodes.integers(0), nodes.integers(longest)
            axis, name = nodes.integers(3), f"mask.{kind}"
            keys = nodes.node("Slice", [keys, first, end, axis], f"{name}.keys")
            numbers = nodes.node("Slice", [numbers, first, end], f"{name}.numbers")
        return self._added(
            nodes, kind, keys, (numbers, numbers), f"mask.{kind}", causal=False
        )

    def _longest_whole(self, kind: str) -> int:
        """Return the tokens up to which attention is computed whole: pieces of local layers see twice their size."""
        if kind == SLIDING:
            return min(LONG, 4 * self._config.window)
        return LONG // 2 if self._config.causal else LONG

    def write(self, name: str, kind: str, query: str, key: str, value: str) -> str:
        """Write attention under `name`; all are float32 (batch, length, heads * channels)."""
        values = (query, key, value)
        inputs = [*values, self._masks[kind]]
        if self._longest <= self._longest_whole(kind):
            return self._attention(self._nodes, name, inputs, causal=True)
        short = self._nodes.body()
        mixed = self._attention(short, f"{name}.short", inputs, causal=True)
        return self._nodes.node(
            "If",
            [f"length.long.{kind}"],
            name,
            then_branch=self._long(f"{name}.long", kind, values),
            else_branch=short.graph([mixed]),
        )

    def _long(self, name: str, kind: str, values: tuple[str, str, str]) -> GraphProto:
        """Return the graph of a long text's attention."""
        nodes, config = self._nodes.body(), self._config
        size = self._scalar(self._piece(kind))
        if kind != FULL or config.causal or config.key_heads != config.heads:
            return nodes.graph([self._in_pieces(nodes, name, kind, values, size)])
        masked, unmasked = nodes.body(), nodes.body()
        in_masked = self._in_pieces(masked, f"{name}.masked", kind, values, size)
        size = self._equal_pieces(unmasked, f"{name}.unmasked")
        in_unmasked = self._in_pieces(
            unmasked, f"{name}.unmasked", kind, values, size, unmasked=True
        )
        nodes.node(
            "If",
            ["padded"],
            name,
            then_branch=masked.graph([in_masked]),
            else_branch=unmasked.graph([in_unmasked]),
        )
        return nodes.graph([name])

    def _equal_pieces(self, nodes: Nodes, name: str) -> str:
        """Return how many queries a piece has if all have as many, and none is almost empty."""
        most = self._scalar(_UNMASKED_PIECE)
        count = self._ceil_div(nodes, LENGTH, most, f"{name}.count")
        return self._ceil_div(nodes, LENGTH, count, f"{name}.size")

    def _ceil_div(self, nodes: Nodes, number: str, by: str, name: str) -> str:
        less = nodes.node("Sub", [number, self._scalar(1)], f"{name}.less")
        down = nodes.node("Div", [less, by], f"{name}.down")
        return nodes.node("Add", [down, self._scalar(1)], name)

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
        if kind != SLIDING and not (causal and self._config.causal):
            counted = nodes.node("Shape", [numbers[0]], f"{name}.counted")
            sizes = [nodes.integers(1, 1), counted, nodes.integers(1)]
            shape = nodes.node("Concat", sizes, f"{name}.shape", axis=0)
            return nodes.node("Expand", [keys, shape], name)
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
        if len(hidden) > 1:
            hidden = [nodes.node("Or", hidden, f"{name}.hidden")]
        lowest = nodes.parameter("padding", np.array(-1e9, np.float32))
        nothing = nodes.parameter("nothing", np.array(0, np.float32))
        lowered = nodes.node("Where", [*hidden, lowest, nothing], f"{name}.lowered")
        return nodes.node("Add", [keys, lowered], name)

    def _in_pieces(
        self,
        nodes: Nodes,
        name: str,
        kind: str,
        values: tuple[str, str, str],
        size: str,
        *,
        unmasked: bool = False,
    ) -> str:
        """Write the queries of a long text piece by piece, of `size` each. `unmasked`: without a mask."""
        query, key, value = values
        pieces = self._ceil_div(nodes, LENGTH, size, f"{name}.pieces")
        filled = nodes.node("Mul", [pieces, size], f"{name}.filled")
        missing = nodes.node("Sub", [filled, "length"], f"{name}.missing")
        before, after = nodes.integers(0, 0, 0, 0), nodes.integers(0)
        pads = nodes.node("Concat", [before, missing, after], f"{name}.pads", axis=0)
        padded = nodes.node("Pad", [query, pads], f"{name}.padded")
        body = nodes.body()
        start, end = self._bounds(body, f"{name}.piece", size)
        axis = nodes.integers(1)
        taken = body.node("Slice", [padded, start, end, axis], f"{name}.piece.query")
        if unmasked:
            mixed = body.node(
                "MultiHeadAttention",
                [taken, key, value],
                f"{name}.piece.mixed",
                FUSED,
                num_heads=self._config.heads,
                scale=self._config.scale,
            )
        else:
            bounds, seen = (start, end), (taken, key, value)
            mixed = self._one_piece(body, f"{name}.piece", kind, seen, bounds)
        on = nodes.parameter("on", np.array(1, np.bool_))
        answers = nodes.node(
            "Loop", [pieces, on], f"{name}.all", body=self._looped(body, name, mixed)
        )
        by_text = nodes.node("Transpose", [answers], f"{name}.rows", perm=[1, 0, 2, 3])
        shape = nodes.integers(0, -1, self._config.heads * self._config.head_size)
        joined = nodes.node("Reshape", [by_text, shape], f"{name}.joined")
        cut = [joined, nodes.integers(0), "length", axis]
        return nodes.node("Slice", cut, f"{name}.cut")

    def _bounds(self, nodes: Nodes, name: str, size: str) -> tuple[str, str]:
        """Return the numbers of the first query of a piece and of the first one behind it."""
        first = nodes.integers(0)
        number = nodes.node("Unsqueeze", [f"{name}.number", first], f"{name}.numbered")
        start = nodes.node("Mul", [number, size], f"{name}.start")
        return start, nodes.node("Add", [start, size], f"{name}.end")

    def _looped(self, nodes: Nodes, name: str, mixed: str) -> GraphProto:
        """Return the loop's body, which answers `mixed`."""
        name = f"{name}.piece"
        on = nodes.node("Identity", [f"{name}.on"], f"{name}.on.still")
        inputs = [
            helper.make_tensor_value_info(f"{name}.number", TensorProto.INT64, []),
            helper.make_tensor_value_info(f"{name}.on", TensorProto.BOOL, []),
        ]
        return nodes.graph([on, mixed], inputs)

    def _one_piece(
        self,
        nodes: Nodes,
        name: str,
        kind: str,
        values: tuple[str, str, str],
        bounds: tuple[str, str],
    ) -> str:
        """Write the attention of one piece's queries to the keys that they can see."""
        config = self._config
        (taken, key, value), (start, end) = values, bounds
        window = nodes.integers(config.window)
        first, axis = nodes.integers(0), nodes.integers(1)
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
        values_seen = nodes.node("Slice", [value, *ends, axis], f"{name}.value")
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
        inputs = [taken, keys, values_seen, added]
        return self._attention(nodes, f"{name}.mixed", inputs, causal=False)

    def _piece(self, kind: str) -> int:
        """Return how many queries are taken at a time."""
        if kind == SLIDING:
            return max(2 * self._config.window, _LEAST_PIECE)
        return _PIECE // 2 if self._config.causal else _PIECE

    def _column(self, nodes: Nodes, numbers: str, name: str) -> str:
        return nodes.node("Unsqueeze", [numbers, nodes.integers(1)], f"{name}.asking")

    def _scalar(self, value: int) -> str:
        return self._nodes.parameter(f"scalar.{value}", np.array(value, np.int64))
