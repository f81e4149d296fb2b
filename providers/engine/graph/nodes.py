"""The nodes and parameters of one ONNX graph on its way. onnx and numpy only."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FUSED = "com.microsoft"
_OPSET, _IR_VERSION = 23, 11
_STORED_FROM_BYTES = 991  # as onnx.save does by default


class ParameterFile:
    """The large parameters of a graph, in a file beside it: written as they come, so that none stays in memory.

    `shared`: parameters by name that another graph's file holds already.
    """

    def __init__(
        self, path: Path, shared: Mapping[str, TensorProto] | None = None
    ) -> None:
        path.unlink(missing_ok=True)
        self._path, self._shared = path, shared or {}
        self._size = 0

    def store(self, name: str, value: NDArray[np.generic]) -> TensorProto:
        """Return what the graph says of a parameter: where it lies, or a small one itself."""
        if name in self._shared:
            return self._shared[name]
        if value.nbytes < _STORED_FROM_BYTES:
            return numpy_helper.from_array(value, name)
        with self._path.open("ab") as file:
            file.write(value.data)
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor = TensorProto(name=name, dims=value.shape, data_type=kind)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": self._path.name, "offset": self._size}
        for key, said in {**place, "length": value.nbytes}.items():
            tensor.external_data.add(key=key, value=str(said))
        self._size += value.nbytes
        return tensor


class Nodes:
    """Collects nodes and parameters; every method returns the name of the value it made.

    A name stands for one value: asking for one that is there makes no second.
    """

    def __init__(
        self, file: ParameterFile, parameters: dict[str, TensorProto] | None = None
    ) -> None:
        self._file = file
        self._nodes: dict[str, onnx.NodeProto] = {}
        self._taken = 0
        self._parameters = {} if parameters is None else parameters

    def node(
        self,
        operator: str,
        inputs: list[str],
        output: str,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Add a node."""
        if output not in self._nodes:
            self._nodes[output] = helper.make_node(
                operator,
                inputs,
                [output],
                domain=domain,
                name=output,
                **attributes,
            )
        return output

    def parameter(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a parameter."""
        if name not in self._parameters:
            self._parameters[name] = self._file.store(
                name, np.asarray(value, order="C")
            )
        return name

    def parameters(self) -> list[TensorProto]:
        """Return the parameters so far."""
        return list(self._parameters.values())

    def taken(self) -> list[onnx.NodeProto]:
        """Return the nodes that were added since this was last called."""
        added = list(self._nodes.values())[self._taken :]
        self._taken = len(self._nodes)
        return added

    def integers(self, *values: int) -> str:
        """Return int64 (len(values),), as shapes and axes are given."""
        name = "integers." + ".".join(str(value) for value in values)
        return self.parameter(name, np.array(values, np.int64))

    def body(self) -> "Nodes":
        """Return the nodes of a nested graph, which sees the values of this one and shares its parameters."""
        return Nodes(self._file, self._parameters)

    def graph(
        self, answers: Sequence[str], inputs: Sequence[onnx.ValueInfoProto] = ()
    ) -> onnx.GraphProto:
        """Return a nested graph: an If's branch, a Loop's body. Its answers are float32, or bool if they say so."""
        return helper.make_graph(
            list(self._nodes.values()),
            answers[-1],
            list(inputs),
            [onnx.ValueInfoProto(name=answer) for answer in answers],
        )

    def model(self, answer: str, shape: list[str | int]) -> onnx.ModelProto:
        """Return the whole model, whose one output is the float32 value `answer`."""
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ]
        answers = [helper.make_tensor_value_info(answer, TensorProto.FLOAT, shape)]
        graph = helper.make_graph(
            list(self._nodes.values()),
            "encoder",
            inputs,
            answers,
            list(self._parameters.values()),
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
