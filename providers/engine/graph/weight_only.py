"""Products whose parameters are int8 in blocks, of any ONNX graph: ONNX Runtime's MatMulNBits. onnx and numpy only.

ONNX Runtime quantises activations as they come, each token for itself, so that a text's vector does not depend on what
else is in its batch, and nothing is calibrated. Less is gained than by fixed scales (int8.py), and less is lost.
Format: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from providers.engine.graph.checkpoint import Array
from providers.engine.graph.nodes import FUSED, Nodes
from providers.engine.graph.products import Product, ProductGraph

_BLOCK = 32
_LEVELS, _ZERO = 127, 128
_INT8_SUMS = 4  # "accuracy_level": the products themselves in int8


def build_weight_only(exact: Path, path: Path) -> None:
    """Write the graph at `exact` to `path`, in the same folder, with its products in int8. Raises Unbuildable."""
    graph = ProductGraph(exact)

    def replace(nodes: Nodes, product: Product) -> None:
        linear = graph.linear(product)
        size, out = linear.weight.shape
        blocks, scales = quantised_blocks(linear.weight)
        # By the parameters' name: some models compute several products with the same.
        inputs = [
            product.x,
            nodes.parameter(f"{product.weight}.blocks", blocks),
            nodes.parameter(f"{product.weight}.scales", scales),
        ]
        if product.bias is not None and linear.bias is not None:
            bias = nodes.parameter(f"{product.bias}.kept", linear.bias)
            inputs += ["", "", bias]
        nodes.node(
            "MatMulNBits",
            inputs,
            product.output,
            FUSED,
            K=size,
            N=out,
            bits=8,
            block_size=_BLOCK,
            accuracy_level=_INT8_SUMS,
        )

    graph.write(path, graph.products, replace)


def quantised_blocks(weight: Array) -> tuple[NDArray[np.uint8], Array]:
    """Return a weight, (in, out), as uint8 (out, blocks, 32) about 128, and scales, float32 (out, blocks).

    A block is 32 inputs of one output; the last is filled with zeros.
    """
    size, out = weight.shape
    count = -(-size // _BLOCK)
    padded = np.zeros((out, count * _BLOCK), np.float32)
    padded[:, :size] = weight.T
    blocks = padded.reshape(out, count, _BLOCK)
    scales = np.maximum(np.abs(blocks).max(axis=2), 1e-12) / np.float32(_LEVELS)
    blocks /= scales[:, :, None]
    np.rint(blocks, out=blocks)
    return (blocks + _ZERO).astype(np.uint8), scales.astype(np.float32)
