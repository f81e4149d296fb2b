"""A BERT-family encoder's parameters out of safetensors files, under one set of names. numpy and safetensors only."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from providers.exceptions import ProviderMisconfigured

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Linear:
    """`x @ weight + bias`: weight (in, out), bias (out,)."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer normalisation's scale and shift, each (hidden,)."""

    scale: Array
    shift: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """Where one family of transformers' models keeps its parameters."""

    layer: str
    query: str
    key: str
    value: str
    attended: str
    attended_norm: str
    inner: str
    outer: str
    outer_norm: str


_BERT = _Names(
    layer="encoder.layer.{}.",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attended="attention.output.dense",
    attended_norm="attention.output.LayerNorm",
    inner="intermediate.dense",
    outer="output.dense",
    outer_norm="output.LayerNorm",
)
_DISTILBERT = _Names(
    layer="transformer.layer.{}.",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    attended="attention.out_lin",
    attended_norm="sa_layer_norm",
    inner="ffn.lin1",
    outer="ffn.lin2",
    outer_norm="output_layer_norm",
)
_FAMILIES: Mapping[str, _Names] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "distilbert": _DISTILBERT,
}


class Checkpoint:
    """The parameters of one encoder, read when asked for; float16 and bfloat16 are widened to float32."""

    def __init__(self, tensors: Mapping[str, Any], model_type: str) -> None:
        self._tensors = tensors
        self._names = _FAMILIES[model_type]
        # Checkpoints of a whole task model put the encoder under a prefix such as "bert." or "roberta.".
        anchor = "embeddings.word_embeddings.weight"
        self._prefix = next(
            name.removesuffix(anchor) for name in tensors if name.endswith(anchor)
        )

    def words(self) -> Array:
        """Word embeddings, (vocabulary, hidden)."""
        return self._array("embeddings.word_embeddings.weight")

    def positions(self) -> Array:
        """Position embeddings, (positions, hidden), with those of token type 0 added: every token here has it."""
        positions = self._array("embeddings.position_embeddings.weight")
        types = "embeddings.token_type_embeddings.weight"
        return (
            positions + self._array(types)[0]
            if self._prefix + types in self._tensors
            else positions
        )

    def embeddings_norm(self) -> Norm:
        """Normalisation after the embeddings."""
        return self._norm("embeddings.LayerNorm")

    def attention_inputs(self, layer: int) -> dict[str, Linear]:
        """Projections before attention, as `query`, `key` and `value`: weights (hidden, hidden)."""
        names = self._names
        parts = {"query": names.query, "key": names.key, "value": names.value}
        prefix = names.layer.format(layer)
        return {part: self._linear(prefix + name) for part, name in parts.items()}

    def attention_output(self, layer: int) -> Linear:
        """Projection after attention."""
        return self._linear(self._names.layer.format(layer) + self._names.attended)

    def attention_norm(self, layer: int) -> Norm:
        """Normalisation after attention."""
        return self._norm(self._names.layer.format(layer) + self._names.attended_norm)

    def inner(self, layer: int) -> Linear:
        """Feed-forward layer up: weight (hidden, intermediate)."""
        return self._linear(self._names.layer.format(layer) + self._names.inner)

    def outer(self, layer: int) -> Linear:
        """Feed-forward layer down: weight (intermediate, hidden)."""
        return self._linear(self._names.layer.format(layer) + self._names.outer)

    def outer_norm(self, layer: int) -> Norm:
        """Normalisation after the feed-forward layers."""
        return self._norm(self._names.layer.format(layer) + self._names.outer_norm)

    def _linear(self, name: str) -> Linear:
        return Linear(self._array(f"{name}.weight").T, self._array(f"{name}.bias"))

    def _norm(self, name: str) -> Norm:
        # Checkpoints converted from TensorFlow long ago say gamma and beta.
        old = f"{self._prefix}{name}.gamma" in self._tensors
        return Norm(
            *(
                self._array(f"{name}.{part}")
                for part in (("gamma", "beta") if old else ("weight", "bias"))
            )
        )

    def _array(self, name: str) -> Array:
        return as_float32(self._tensors[self._prefix + name])


class _Lazy(Mapping[str, Any]):
    """Tensors of several safetensors files by name, read one at a time, so that a checkpoint is never held twice."""

    def __init__(self, files: list[Any]) -> None:
        self._owners = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - not a dict

    def __getitem__(self, name: str) -> Any:
        return self._owners[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._owners)

    def __len__(self) -> int:
        return len(self._owners)


@contextmanager
def open_tensors(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Open all safetensors files of a folder (not below it) as one mapping. Raises ProviderMisconfigured."""
    try:
        with ExitStack() as stack:
            paths = sorted(folder.glob("*.safetensors"))
            yield _Lazy(
                [stack.enter_context(safe_open(path, framework="np")) for path in paths]
            )
    except (SafetensorError, KeyError, StopIteration) as error:
        raise ProviderMisconfigured(
            f"The safetensors files in {folder} lack what the model needs."
        ) from error


def read_linear(folder: Path) -> Linear:
    """Read sentence-transformers' Dense module; a missing bias becomes zeros."""
    with open_tensors(folder) as tensors:
        weight = as_float32(tensors["linear.weight"]).T
        bias = (
            as_float32(tensors["linear.bias"])
            if "linear.bias" in tensors
            else np.zeros(weight.shape[1], np.float32)
        )
    return Linear(weight, bias)


def as_float32(tensor: Any) -> Array:
    """Widen or pass on a parameter."""
    return np.asarray(tensor, dtype=np.float32)
