"""The products with parameters in any ONNX graph, and the graph with those replaced. onnx only."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper

from providers.engine.graph.checkpoint import Array, Linear
from providers.engine.graph.nodes import FUSED, Nodes, ParameterFile
from providers.engine.graph.settings import Unbuildable

# What a product's parameters have at least in each direction: smaller ones cost nothing.
_LEAST_SIZE = 8


@dataclass(frozen=True, slots=True)
class Product:
    """`output = x @ weight + bias`: names of values. `weight` is stored as (in, out), or (out, in) if `transposed`.

    `places`: where in the graph the nodes stand that compute it, the product itself first.
    """

    x: str
    weight: str
    transposed: bool
    bias: str | None
    output: str
    places: tuple[int, ...]


class ProductGraph:
    """One ONNX graph in its file, with the products that can be replaced. Raises Unbuildable for none of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._model = onnx.load(path, load_external_data=False)
        self._stored = {each.name: each for each in self._model.graph.initializer}
        self.products = list(self._found())
        if not self.products:
            raise Unbuildable(f"{path.name} has no products with parameters")

    def linear(self, product: Product) -> Linear:
        """Read a product's parameters, float32."""
        weight = self._read(product.weight)
        bias = None if product.bias is None else self._read(product.bias)
        return Linear(weight.T if product.transposed else weight, bias)

    def shape(self, product: Product) -> tuple[int, int]:
        """Return a product's inputs and outputs."""
        stored = self._shape(product.weight)
        inputs, outputs = reversed(stored) if product.transposed else stored
        return inputs, outputs

    def watching(self, values: Sequence[str]) -> onnx.ModelProto:
        """Return the graph with these values, float32, as further outputs."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        given = {each.name for each in model.graph.output}
        for value in values:
            if value not in given:
                model.graph.output.append(
                    helper.make_tensor_value_info(value, TensorProto.FLOAT, None)
                )
        return model

    def write(
        self,
        path: Path,
        products: Sequence[Product],
        replace: Callable[[Nodes, Product], None],
    ) -> None:
        """Write the graph to `path` in the same folder, `replace` in place of each of `products`.

        `replace` adds nodes that give the value `product.output`. Their parameters go to a file beside the graph; what
        else this graph keeps in a file of its own, both share.
        """
        file = ParameterFile(path.with_suffix(".bin"))
        nodes = Nodes(file)
        begins = {product.places[0]: product for product in products}
        replaced = {place for product in products for place in product.places}
        written: list[onnx.NodeProto] = []
        for place, node in enumerate(self._model.graph.node):
            if place in begins:
                replace(nodes, begins[place])
                written += nodes.taken()
            elif place not in replaced:
                written.append(node)
        onnx.save(self._with(written, nodes, file), path)
        onnx.checker.check_model(path)

    def _with(
        self, written: list[onnx.NodeProto], nodes: Nodes, file: ParameterFile
    ) -> onnx.ModelProto:
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        for field in (graph.node, graph.initializer, graph.value_info):
            del field[:]
        graph.node.extend(_needed(written, {each.name for each in graph.output}))
        used = Counter(_used(graph))
        for name, tensor in self._stored.items():
            if used[name]:
                graph.initializer.append(_moved(tensor, file))
        graph.initializer.extend(nodes.parameters())
        if all(each.domain != FUSED for each in model.opset_import):
            model.opset_import.append(helper.make_opsetid(FUSED, 1))
        return model

    def _found(self) -> Iterator[Product]:
        graph = self._model.graph
        makers = {node.output[0]: node for node in graph.node if node.output}
        uses = Counter(_used(graph))
        readers = {
            name: place for place, node in enumerate(graph.node) for name in node.input
        }
        for place, node in enumerate(graph.node):
            found = self._plain(node, makers)
            if found is None:
                continue
            weight, transposed, bias = found
            output = node.output[0]
            places: tuple[int, ...] = (place,)
            follower = readers.get(output)
            if bias is None and follower is not None and uses[output] == 1:
                added = graph.node[follower]
                out = self._stored[weight].dims[0 if transposed else 1]
                if bias := self._added(added, output, out):
                    output, places = added.output[0], (place, follower)
            yield Product(node.input[0], weight, transposed, bias, output, places)

    def _plain(
        self, node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]
    ) -> tuple[str, bool, str | None] | None:
        """Return the parameters of a node that multiplies with some: weight, whether it is (out, in), and bias."""
        if node.domain or node.op_type not in ("MatMul", "Gemm"):
            return None
        attributes = {
            each.name: helper.get_attribute_value(each) for each in node.attribute
        }
        weight, bias = node.input[1], None
        transposed = bool(attributes.pop("transB", 0))
        if node.op_type == "Gemm":
            bias = node.input[2] if len(node.input) > 2 else None
            neutral = {"alpha": 1.0, "beta": 1.0, "transA": 0}
            if any(attributes[name] != neutral.get(name) for name in attributes):
                return None
        maker = makers.get(weight)
        if maker is not None and maker.op_type == "Transpose":
            weight, transposed = maker.input[0], not transposed
        shape = self._shape(weight)
        if len(shape) != 2 or min(shape) < _LEAST_SIZE:
            return None
        out = shape[0 if transposed else 1]
        if bias and self._shape(bias) != (out,):
            return None
        return weight, transposed, bias or None

    def _added(self, node: onnx.NodeProto, output: str, out: int) -> str | None:
        """Return the bias that a node adds to `output`, (out,), or None."""
        if node.domain or node.op_type != "Add":
            return None
        [other] = [name for name in node.input if name != output] or [""]
        return other if self._shape(other) == (out,) else None

    def _shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a stored float32 parameter; () for anything else."""
        tensor = self._stored.get(name)
        if tensor is None or tensor.data_type != TensorProto.FLOAT:
            return ()
        return tuple(tensor.dims)

    def _read(self, name: str) -> Array:
        found: Array = numpy_helper.to_array(self._stored[name], str(self.path.parent))
        return found


def _moved(tensor: onnx.TensorProto, file: ParameterFile) -> onnx.TensorProto:
    """Return a parameter that lies in a file: the one it is in, else this one."""
    if tensor.data_location == TensorProto.EXTERNAL:
        return tensor
    return file.store(tensor.name, numpy_helper.to_array(tensor))


def _needed(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Return, in order, the nodes on which these values depend."""
    needed = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            needed.append(node)
            wanted |= set(_read_by(node))
    return needed[::-1]


def _used(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the name of a value each time it is read, in nested graphs too."""
    yield from (each.name for each in graph.output)
    for node in graph.node:
        yield from _read_by(node)


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield from _used(attribute.g)
        for nested in attribute.graphs:
            yield from _used(nested)
