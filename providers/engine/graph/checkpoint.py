"""A BERT-family encoder's parameters out of safetensors files, under one set of names. numpy and safetensors only."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from providers.engine.graph.architectures import (
    ARCHITECTURES,
    BUCKETS,
    HEADS,
    INNER_SIZE,
    LAYERS,
)
from providers.engine.graph.config import (
    DenseConfig,
    GraphConfig,
    Unbuildable,
    object_of,
)

SAFETENSORS_FILE = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"

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
_WORDS = "embeddings.word_embeddings.weight"
_FLOATS = frozenset({"F16", "BF16", "F32", "F64"})
_NAMED = 3


class Checkpoint:
    """The parameters of one encoder, read when asked for; float16 and bfloat16 are widened to float32.

    Raises Unbuildable where they are not exactly what the config asks for: an encoder with a layer too many
    or too few still gives vectors, but not its own.
    """

    def __init__(self, tensors: "Tensors", config: GraphConfig) -> None:
        self._tensors = tensors
        self._names = ARCHITECTURES[config.model_type]
        self._layers = config.size(*LAYERS)
        self._names_in_file = self._found()
        self._check(self._shapes(config))

    def words(self) -> Array:
        """Word embeddings, (vocabulary, hidden)."""
        return self._array("embeddings.word_embeddings.weight")

    def positions(self) -> Array:
        """Position embeddings, (positions, hidden), with those of token type 0 added: every token here has it."""
        positions = self._array("embeddings.position_embeddings.weight")
        types = "embeddings.token_type_embeddings.weight"
        return (
            positions + self._array(types)[0]
            if types in self._names_in_file
            else positions
        )

    def relative_bias(self) -> Array | None:
        """What attention adds by the distance of two tokens, (buckets, heads), if the architecture has such a table."""
        name = self._names.relative_bias
        return None if name is None else self._array(name)

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
        return Norm(self._array(f"{name}.weight"), self._array(f"{name}.bias"))

    def _array(self, name: str) -> Array:
        return as_float32(self._tensors[self._names_in_file[name]])

    def _found(self) -> dict[str, str]:
        """Return the file's names by those of a bare encoder."""
        # Checkpoints of a whole task model put the encoder under a prefix such as "bert." or "roberta.".
        prefixes = [
            name.removesuffix(_WORDS)
            for name in self._tensors.names
            if name.endswith(_WORDS)
        ]
        if len(prefixes) != 1:
            raise Unbuildable(
                f"its checkpoint has {len(prefixes) or 'no'} tables of word embeddings ({_WORDS}); it must have one"
            )
        found = {}
        for name in self._tensors.names:
            if name.startswith(prefixes[0]):
                # Checkpoints converted from TensorFlow long ago say gamma and beta.
                bare = name.removeprefix(prefixes[0])
                bare = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", bare)
                found[re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", bare)] = name
        return found

    def _shapes(self, config: GraphConfig) -> dict[str, tuple[int | None, ...]]:
        """Return what the config asks for: shapes by name, None where it leaves a size open."""
        hidden = config.hidden
        inner = _known(config, *INNER_SIZE)
        sides = {"inner": (inner, hidden), "outer": (hidden, inner)}
        shapes: dict[str, tuple[int | None, ...]] = {
            _WORDS: (_known(config, "vocab_size"), hidden),
            "embeddings.position_embeddings.weight": (
                _known(config, "max_position_embeddings"),
                hidden,
            ),
        }
        if self._names.token_types:
            shapes["embeddings.token_type_embeddings.weight"] = (None, hidden)
        if self._names.relative_bias:
            shapes[self._names.relative_bias] = (BUCKETS, config.size(*HEADS))
        norms = ["embeddings.LayerNorm"]
        # A layer has more than one parameter: beyond this many, some are missing for certain.
        for index in range(min(self._layers, len(self._tensors.names))):
            prefix = self._names.layer.format(index)
            for part in ("query", "key", "value", "attended", "inner", "outer"):
                name = f"{prefix}{getattr(self._names, part)}"
                weight = sides.get(part, (hidden, hidden))
                shapes |= {f"{name}.weight": weight, f"{name}.bias": weight[:1]}
            norms += [
                prefix + self._names.attended_norm,
                prefix + self._names.outer_norm,
            ]
        for name in norms:
            shapes |= {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}
        return shapes

    def _check(self, shapes: Mapping[str, tuple[int | None, ...]]) -> None:
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


def _known(config: GraphConfig, *names: str) -> int | None:
    return (
        config.size(*names) if any(name in config.encoder for name in names) else None
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

    def fits(self, name: str, shape: tuple[int | None, ...]) -> bool:
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
    """Read sentence-transformers' Dense module of a model's folder; a missing bias becomes zeros."""
    shapes: dict[str, tuple[int | None, ...]] = {
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
        bias = (
            as_float32(tensors["linear.bias"])
            if layer.bias
            else np.zeros(layer.out_features, np.float32)
        )
    return Linear(weight, bias)


def as_float32(tensor: Any) -> Array:
    """Widen or pass on a parameter."""
    return np.asarray(tensor, dtype=np.float32)
