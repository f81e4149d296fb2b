"""The nodes and parameters of one ONNX graph on its way. onnx and numpy only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FUSED = "com.microsoft"
_OPSET, _IR_VERSION = 23, 11
_EXTERNAL_FROM_BYTES = 1024


class Nodes:
    """Collects nodes and parameters; every method returns the name of the value it made.

    A name stands for one value: asking for one that is there makes no second.
    """

    def __init__(self, parameters: dict[str, onnx.TensorProto] | None = None) -> None:
        self._nodes: dict[str, onnx.NodeProto] = {}
        self._parameters = {} if parameters is None else parameters

    def node(
        self,
        operator: str,
        inputs: list[str],
        output: str,
        domain: str = "",
        *,
        more: tuple[str, ...] = (),
        **attributes: Any,
    ) -> str:
        """Add a node; `more` are the outputs after the first."""
        if output not in self._nodes:
            self._nodes[output] = helper.make_node(
                operator,
                inputs,
                [output, *more],
                domain=domain,
                name=output,
                **attributes,
            )
        return output

    def parameter(self, name: str, value: NDArray[np.generic]) -> str:
        """Add a parameter."""
        if name not in self._parameters:
            self._parameters[name] = numpy_helper.from_array(
                np.asarray(value, order="C"), name
            )
        return name

    def integers(self, *values: int) -> str:
        """Return int64 (len(values),), as shapes and axes are given."""
        name = "integers." + ".".join(str(value) for value in values)
        return self.parameter(name, np.array(values, np.int64))

    def body(self) -> "Nodes":
        """Return the nodes of a nested graph, which sees the values of this one and shares its parameters."""
        return Nodes(self._parameters)

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


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write the graph, and its parameters into a file of the same name that ends in `.bin`."""
    path.with_suffix(".bin").unlink(missing_ok=True)
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=path.with_suffix(".bin").name,
        size_threshold=_EXTERNAL_FROM_BYTES,
    )
    onnx.checker.check_model(path)
