"""What the processor can do at most: the matrix products of MiniLM alone, and the serialising of vectors alone."""

import base64
import statistics
import time
from collections.abc import Callable

import numpy as np
import orjson
import torch

from benchmarks.child import answer_questions
from benchmarks.preparation import cores

# all-MiniLM-L6-v2: six layers, each with four 384x384 products (query, key, value, output) and a feed-forward of 1536.
LAYERS = 6
SHAPES = ((384, 384),) * 4 + ((384, 1536), (1536, 384))
# A multiplication and an addition for each weight; attention's own products (3% at 75 tokens) are left out.
FLOPS_PER_TOKEN = LAYERS * sum(2 * inputs * outputs for inputs, outputs in SHAPES)
ROWS = 2048
SECONDS = 2.0
VECTORS, DIMENSIONS = 2048, 384


def fp32() -> dict[str, float]:
    """Return tokens/s of MiniLM's products in fp32, each layer with weights of its own."""
    rows = {width: torch.randn(ROWS, width) for width in (384, 1536)}
    weights = [torch.randn(outputs, inputs).T for inputs, outputs in SHAPES * LAYERS]
    sums = {width: torch.empty(ROWS, width) for width in (384, 1536)}

    def products() -> None:
        for weight in weights:
            inputs, outputs = weight.shape
            torch.mm(rows[inputs], weight, out=sums[outputs])

    return _tokens_per_second(products)


def int8() -> dict[str, float]:
    """Return tokens/s of the same products in int8 with int32 sums."""
    rows = {width: _int8(ROWS, width) for width in (384, 1536)}
    weights = [_int8(outputs, inputs).T for inputs, outputs in SHAPES * LAYERS]
    sums = {width: torch.empty(ROWS, width, dtype=torch.int32) for width in (384, 1536)}

    def products() -> None:
        for weight in weights:
            inputs, outputs = weight.shape
            torch._int_mm(rows[inputs], weight, out=sums[outputs])

    return _tokens_per_second(products)


def serialising() -> dict[str, float]:
    """Return the milliseconds that 2048 vectors take from array to body: base64 and JSON, nothing else."""
    vectors = np.random.default_rng(0).random((VECTORS, DIMENSIONS), dtype=np.float32)

    def serialise() -> bytes:
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(row.tobytes()).decode(),
            }
            for index, row in enumerate(vectors)
        ]
        return orjson.dumps({"object": "list", "data": data})

    return {"ms": statistics.median(_seconds(serialise, count=15)) * 1000}


def _int8(height: int, width: int) -> torch.Tensor:
    return torch.randint(-127, 127, (height, width), dtype=torch.int8)


def _tokens_per_second(products: Callable[[], object]) -> dict[str, float]:
    """Return what bulk is measured by, too: the work done over all the time it took, slow moments included."""
    products()
    deadline = time.perf_counter() + SECONDS
    taken: list[float] = []
    while time.perf_counter() < deadline:
        taken += _seconds(products, count=1)
    return {"tokens_per_second": ROWS * len(taken) / sum(taken)}


def _seconds(work: Callable[[], object], *, count: int) -> list[float]:
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return taken


if __name__ == "__main__":
    torch.set_num_threads(cores())
    with torch.inference_mode():
        answer_questions({"fp32": fp32, "int8": int8, "serialising": serialising})
