"""Products in float16, of any ONNX graph, for devices that have units for them. onnx and numpy only.

All between the products stays in float32: norms, softmax and pooling take a small part of the time, and lose most.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto

from providers.engine.graph.nodes import Nodes
from providers.engine.graph.products import Product, ProductGraph
from providers.engine.graph.settings import Unbuildable


def build_half(exact: Path, path: Path) -> None:
    """Write the graph at `exact` to `path`, in the same folder, with its products in float16. Raises Unbuildable."""
    graph = ProductGraph(exact)

    def replace(nodes: Nodes, product: Product) -> None:
        linear = graph.linear(product)
        with np.errstate(over="ignore"):
            weight = linear.weight.astype(np.float16)
        if not np.isfinite(weight).all():
            raise Unbuildable(f"{product.weight} holds more than float16 can")
        narrow = nodes.node(
            "Cast", [product.x], f"{product.x}.half", to=TensorProto.FLOAT16
        )
        weights = nodes.parameter(f"{product.weight}.half", weight)
        multiplied = nodes.node("MatMul", [narrow, weights], f"{product.output}.half")
        if product.bias is None or linear.bias is None:
            nodes.node("Cast", [multiplied], product.output, to=TensorProto.FLOAT)
            return
        widened = f"{product.output}.widened"
        wide = nodes.node("Cast", [multiplied], widened, to=TensorProto.FLOAT)
        bias = nodes.parameter(f"{product.bias}.kept", linear.bias)
        nodes.node("Add", [wide, bias], product.output)

    graph.write(path, graph.products, replace)
