"""An encoder's parameters out of safetensors files, checked. numpy and safetensors only."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from providers.engine.graph.config import DenseConfig
from providers.engine.graph.settings import Unbuildable, object_of

SAFETENSORS_FILE = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"

Array = NDArray[np.float32]
# None stands for any size.
Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Linear:
    """`x @ weight + bias`: weight (in, out), bias (out,) or none."""

    weight: Array
    bias: Array | None


@dataclass(frozen=True, slots=True)
class Norm:
    """A normalisation's scale, (channels,), and shift, (channels,) or none."""

    scale: Array
    shift: Array | None = None


# What checkpoints carry beside the encoder, or keep of it that is computed anyway: no token vector depends on these.
_HEADS = (
    "classifier.",
    "cls.",
    "decoder.",
    "discriminator_predictions.",
    "generator_lm_head.",
    "generator_predictions.",
    "head.",
    "lm_head.",
    "lm_loss.",
    "lm_predictions.",
    "mask_predictions.",
    "pooler.",
    "pre_classifier.",
    "predictions.",
    "qa_outputs.",
    "score.",
    "sop_classifier.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "vocab_transform.",
)
_BUFFERS = ("position_ids", "token_type_ids", "inv_freq")
_FLOATS = frozenset({"F16", "BF16", "F32", "F64"})
_NAMED = 3


class Parameters:
    """The parameters of one encoder, read when asked for; float16 and bfloat16 are widened to float32.

    `words` is the name of its word embeddings, from which any prefix of the file's names is known. `former`, (pattern,
    name), is replaced in turn in names. Raises Unbuildable where there are two encoders, or none.
    """

    def __init__(
        self,
        tensors: "Tensors",
        words: str,
        former: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._tensors = tensors
        self._names_in_file = self._found(words, former)

    @property
    def names(self) -> Set[str]:
        """The names of a bare encoder's parameters, and of what lies beside them."""
        return self._names_in_file.keys()

    def check(self, shapes: Mapping[str, Shape]) -> None:
        """Raise Unbuildable where the parameters are not exactly these.

        An encoder with a layer too many or too few still gives vectors, but not its own.
        """
        found = self._names_in_file
        raise_for(
            "lacks {} that its config.json asks for", shapes.keys() - found.keys()
        )
        strays = beside_the_encoder(found.keys() - shapes.keys())
        raise_for("holds {} that its config.json knows nothing of", strays)
        raise_for(
            "holds {} of another shape or kind than its config.json says",
            (
                name
                for name, shape in shapes.items()
                if not self._tensors.fits(found[name], shape)
            ),
        )

    def array(self, name: str) -> Array:
        """Read one parameter."""
        return as_float32(self._tensors[self._names_in_file[name]])

    def linear(self, name: str) -> Linear:
        """Read a product's parameters, with its bias if there is one."""
        bias = f"{name}.bias"
        weight = self.array(f"{name}.weight").T
        return Linear(weight, self.array(bias) if bias in self.names else None)

    def norm(self, name: str) -> Norm:
        """Read a normalisation's parameters, with its shift if there is one."""
        shift = f"{name}.bias"
        scale = self.array(f"{name}.weight")
        return Norm(scale, self.array(shift) if shift in self.names else None)

    def _found(self, words: str, former: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Return the file's names by those of a bare encoder."""
        # Checkpoints of a whole task model put the encoder under a prefix such as "bert." or "roberta.".
        prefixes = [
            name.removesuffix(words)
            for name in self._tensors.names
            if name.endswith(words)
        ]
        if len(prefixes) != 1:
            raise Unbuildable(
                f"its checkpoint has {len(prefixes) or 'no'} tables of word embeddings ({words}); it must have one"
            )
        found = {}
        for name in self._tensors.names:
            if name.startswith(prefixes[0]):
                bare = name.removeprefix(prefixes[0])
                for pattern, replacement in former:
                    bare = re.sub(pattern, replacement, bare)
                found[bare] = name
        return found


def beside_the_encoder(names: Iterable[str]) -> list[str]:
    """Return those names of a checkpoint that are neither a task's head nor a buffer: parts of another encoder."""
    return [
        name
        for name in names
        if not name.startswith(_HEADS) and not name.endswith(_BUFFERS)
    ]


def raise_for(fault: str, names: Iterable[str]) -> None:
    """Raise Unbuildable that names the first few parameters, if there are any."""
    listed = sorted(names)
    if not listed:
        return
    first = ", ".join(name[:80] for name in listed[:_NAMED])
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    parameters = fault.format(f"parameters ({first}{more})")
    raise Unbuildable(
        f"its checkpoint {parameters}: it is damaged, or of another architecture than config.json says"
    )


class Tensors:
    """Tensors of several safetensors files by name, read one at a time, so that a checkpoint is never held twice."""

    def __init__(self, files: list[Any]) -> None:
        self._owners = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - not a dict

    @property
    def names(self) -> Set[str]:
        """All names."""
        return self._owners.keys()

    def __getitem__(self, name: str) -> Any:
        return self._owners[name].get_tensor(name)

    def fits(self, name: str, shape: Shape) -> bool:
        """Whether a tensor is of floats and of this shape, None standing for any size, without reading it."""
        stored = self._owners[name].get_slice(name)
        sizes = stored.get_shape()
        return (
            stored.get_dtype() in _FLOATS
            and len(sizes) == len(shape)
            and all(
                wanted in (None, size)
                for wanted, size in zip(shape, sizes, strict=True)
            )
        )


def checkpoint_files(folder: Path, names: Collection[str]) -> list[str]:
    """Return the checkpoint's files: one, or those that the index in `folder` names. `names` is all that there is.

    Whatever other safetensors lie beside them belongs to something else. Raises Unbuildable.
    """
    if SAFETENSORS_FILE in names or SAFETENSORS_INDEX not in names:
        return [SAFETENSORS_FILE]
    weight_map = object_of(folder / SAFETENSORS_INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise Unbuildable(f"its {SAFETENSORS_INDEX} has no weight_map")
    shards = sorted({str(shard) for shard in weight_map.values()})
    if odd := [shard for shard in shards if "/" in shard or shard.startswith(".")]:
        raise Unbuildable(
            f"its {SAFETENSORS_INDEX} names {odd[0][:80]!r}, which is no file beside it"
        )
    return shards


@contextmanager
def open_tensors(folder: Path) -> Iterator[Tensors]:
    """Open a folder's checkpoint, not what lies below. Raises Unbuildable."""
    try:
        with ExitStack() as stack:
            names = checkpoint_files(folder, {path.name for path in folder.iterdir()})
            yield Tensors(
                [
                    stack.enter_context(safe_open(folder / name, framework="np"))
                    for name in names
                ]
            )
    except FileNotFoundError as error:
        raise Unbuildable("a file of its checkpoint is absent") from error
    except SafetensorError as error:
        raise Unbuildable("its safetensors are damaged") from error


def read_linear(folder: Path, layer: DenseConfig) -> Linear:
    """Read sentence-transformers' Dense module of a model's folder."""
    shapes: dict[str, Shape] = {
        "linear.weight": (layer.out_features, layer.in_features)
    }
    if layer.bias:
        shapes["linear.bias"] = (layer.out_features,)
    with open_tensors(folder / layer.folder) as tensors:
        if tensors.names != shapes.keys() or not all(
            tensors.fits(name, shape) for name, shape in shapes.items()
        ):
            raise Unbuildable(
                f"the parameters in its {layer.folder} are not those that the config.json there describes"
            )
        weight = as_float32(tensors["linear.weight"]).T
        bias = as_float32(tensors["linear.bias"]) if layer.bias else None
    return Linear(weight, bias)


def as_float32(tensor: Any) -> Array:
    """Widen or pass on a parameter."""
    return np.asarray(tensor, dtype=np.float32)
