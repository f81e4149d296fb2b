"""What the processor can do at most: the matrix products of MiniLM alone, by whoever is best at them.

Torch's own product, oneDNN's (by torch) and ONNX Runtime's are each asked in a thread for each core, a batch of its own
in each, as engines do that keep all cores busy. `limits` leaves attention's own products out (3 % of the time at 75
tokens); `attention` measures these, for long texts.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
import torch
from onnx import NodeProto, helper, numpy_helper
from torch.nn import functional

from benchmarks.child import answer_questions
from benchmarks.preparation import cores

# all-MiniLM-L6-v2: six layers, each with four 384x384 products (query, key, value, output) and a feed-forward of 1536.
SHAPES = (((384, 384),) * 4 + ((384, 1536), (1536, 384))) * 6
ROWS = 512
SECONDS = 0.7
Products = Callable[[], object]
Shapes = Sequence[tuple[int, int]]


def torch_fp32(shapes: Shapes) -> Products:
    """Return the products of these (inputs, outputs) by torch, into memory that is there."""
    rows = {width: torch.randn(ROWS, width) for width in _widths(shapes)}
    sums = {width: torch.empty(ROWS, width) for width in _widths(shapes)}
    weights = [torch.randn(outputs, inputs).T for inputs, outputs in shapes]

    def products() -> None:
        for weight in weights:
            inputs, outputs = weight.shape
            torch.mm(rows[inputs], weight, out=sums[outputs])

    return products


def onednn_fp32(shapes: Shapes) -> Products:
    """Return the same by oneDNN, weights in the order it likes best."""
    layout = torch.ops.mkldnn._reorder_linear_weight
    rows = {width: torch.randn(ROWS, width) for width in _widths(shapes)}
    weights = [layout(torch.randn(outputs, inputs), ROWS) for inputs, outputs in shapes]

    def products() -> None:
        for weight, (inputs, _) in zip(weights, shapes, strict=True):
            torch.ops.mkldnn._linear_pointwise(
                rows[inputs], weight, None, "none", [], ""
            )

    return products


def onnx_runtime_fp32(shapes: Shapes) -> Products:
    """Return the same by ONNX Runtime."""
    return _session("MatMul", np.float32, shapes)


def torch_int8(shapes: Shapes) -> Products:
    """Return the products in int8 with int32 sums, by torch."""
    widths = _widths(shapes)
    rows = {width: _int8(ROWS, width) for width in widths}
    sums = {width: torch.empty(ROWS, width, dtype=torch.int32) for width in widths}
    weights = [_int8(outputs, inputs).T for inputs, outputs in shapes]

    def products() -> None:
        for weight in weights:
            inputs, outputs = weight.shape
            torch._int_mm(rows[inputs], weight, out=sums[outputs])

    return products


def onednn_int8(shapes: Shapes) -> Products:
    """Return the same by oneDNN, from uint8 to uint8."""
    onednn = torch.ops.onednn
    widths = _widths(shapes)
    rows = {width: _int8(ROWS, width).to(torch.uint8) for width in widths}
    weights = [
        onednn.qlinear_prepack(_int8(outputs, inputs), [ROWS, inputs])
        for inputs, outputs in shapes
    ]
    scales = {width: torch.full((width,), 0.01) for width in widths}
    zeros = {width: torch.zeros(width, dtype=torch.int64) for width in widths}

    def products() -> None:
        for weight, (inputs, outputs) in zip(weights, shapes, strict=True):
            onednn.qlinear_pointwise(
                *(rows[inputs], 0.01, 0, weight, scales[outputs], zeros[outputs]),
                *(None, 1.0, 0, torch.uint8, "none", [], ""),
            )

    return products


def onnx_runtime_int8(shapes: Shapes) -> Products:
    """Return the same by ONNX Runtime, from uint8 to uint8."""
    return _session("QLinearMatMul", np.uint8, shapes)


PRODUCTS: dict[str, dict[str, Callable[[Shapes], Products]]] = {
    "fp32": {
        "torch": torch_fp32,
        "oneDNN": onednn_fp32,
        "ONNX Runtime": onnx_runtime_fp32,
    },
    "int8": {
        "torch": torch_int8,
        "oneDNN": onednn_int8,
        "ONNX Runtime": onnx_runtime_int8,
    },
}
_made: dict[object, list[Products]] = {}


def limits(
    precision: str,
    shapes: Sequence[Sequence[int]] = SHAPES,
    lanes: int | None = None,
) -> dict[str, float]:
    """Return tokens/s of a model's products by each library, all cores at work, or so many. Default: MiniLM's."""
    pairs = tuple((inputs, outputs) for inputs, outputs in shapes)
    return {
        name: _tokens_per_second(name, make, pairs, lanes or cores())
        for name, make in PRODUCTS[precision].items()
    }


def attention(heads: int, width: int, tokens: int, keys: int) -> dict[str, float]:
    """Return tokens/s of a layer's two products of attention, float32, on one core: alone, and with the softmax.

    Each of `tokens` has `heads` queries of `width` numbers, and looks at `keys` tokens.
    """
    texts = max(1, ROWS // tokens)
    queries = torch.randn(texts * heads, tokens, width)
    looked_at = torch.randn(texts * heads, keys, width)
    turned = looked_at.transpose(1, 2)
    scores = torch.empty(texts * heads, tokens, keys)
    sums = torch.empty(texts * heads, tokens, width)

    def products() -> None:
        torch.bmm(queries, turned, out=scores)
        torch.bmm(scores, looked_at, out=sums)

    four = [rows.view(texts, heads, -1, width) for rows in (queries, looked_at)]

    def fused() -> None:
        functional.scaled_dot_product_attention(four[0], four[1], four[1])

    found = {}
    for name, run in {"products": products, "fused": fused}.items():
        started = time.perf_counter()
        done = _repeated(run)
        found[name] = texts * tokens * done / (time.perf_counter() - started)
    return found


def _tokens_per_second(
    name: str, make: Callable[[Shapes], Products], shapes: Shapes, count: int
) -> float:
    """Return what bulk is measured by, too: the work done over all the time it took, slow moments included."""
    key = (name, make.__name__, shapes, count)
    if key not in _made:
        _made[key] = [make(shapes) for _ in range(count)]
    lanes = _made[key]
    with ThreadPoolExecutor(len(lanes)) as pool:
        list(pool.map(lambda products: products(), lanes))
        started = time.perf_counter()
        done = sum(pool.map(_repeated, lanes))
        return ROWS * done / (time.perf_counter() - started)


def _repeated(products: Products) -> int:
    deadline, done = time.perf_counter() + SECONDS, 0
    with torch.inference_mode():
        while time.perf_counter() < deadline or not done:
            products()
            done += 1
    return done


def _int8(height: int, width: int) -> torch.Tensor:
    return torch.randint(-127, 127, (height, width), dtype=torch.int8)


def _widths(shapes: Shapes) -> set[int]:
    return {width for shape in shapes for width in shape}


def _session(operator: str, numbers: type[np.generic], shapes: Shapes) -> Products:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        _graph(operator, numbers, shapes), options, providers=["CPUExecutionProvider"]
    )
    rows = {given.name: np.ones(given.shape, numbers) for given in session.get_inputs()}
    return lambda: session.run(None, rows)


def _graph(operator: str, numbers: type[np.generic], shapes: Shapes) -> bytes:
    """Return a graph of all products, each of what the one before gave where that has its width."""
    quantised = operator != "MatMul"
    draw = np.random.default_rng(0)
    weights = [
        draw.integers(-127, 127, shape, np.int8)
        if quantised
        else draw.standard_normal(shape, np.float32) / np.float32(shape[0] ** 0.5)
        for shape in shapes
    ]
    constants = [
        numpy_helper.from_array(weight, f"weight{number}")
        for number, weight in enumerate(weights)
    ]
    if quantised:
        constants += [
            numpy_helper.from_array(np.array(0.01, np.float32), "scale"),
            numpy_helper.from_array(np.array(0, np.uint8), "zero"),
            numpy_helper.from_array(np.array(0, np.int8), "weights_zero"),
        ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(numbers))
    nodes = list(_nodes(operator, shapes, quantised=quantised))
    read = {node.input[0] for node in nodes}
    given = {f"rows{width}": width for width, _ in shapes if f"rows{width}" in read}
    last = {f"product{number}": outputs for number, (_, outputs) in enumerate(shapes)}
    graph = helper.make_graph(
        nodes,
        "products",
        [
            helper.make_tensor_value_info(name, kind, [ROWS, width])
            for name, width in given.items()
        ],
        [
            helper.make_tensor_value_info(name, kind, [ROWS, width])
            for name, width in last.items()
            if name not in read
        ],
        constants,
    )
    opset = helper.make_opsetid("", 21)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    serialised: bytes = model.SerializeToString()
    return serialised


def _nodes(operator: str, shapes: Shapes, *, quantised: bool) -> Iterator[NodeProto]:
    width, before = 0, ""
    for number, (inputs, outputs) in enumerate(shapes):
        x = before if width == inputs else f"rows{inputs}"
        weight, output = f"weight{number}", f"product{number}"
        names = [x, weight]
        if quantised:
            names = [x, "scale", "zero", weight, "scale", "weights_zero"]
            names += ["scale", "zero"]
        yield helper.make_node(operator, names, [output])
        width, before = outputs, output


if __name__ == "__main__":
    torch.set_num_threads(1)
    answer_questions({"limits": limits, "attention": attention})
