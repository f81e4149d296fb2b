"""What an ONNX file wants of a text, and which of its outputs is the vector: chosen by name and checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from providers.engine.described import refused
from providers.engine.model_config import ModelConfig

Ids = NDArray[np.int64]
Value = NDArray[Any]
_KINDS: Mapping[str, Any] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
}
_FLOATS = frozenset({"tensor(float)", "tensor(float16)", "tensor(double)"})
_CACHE = "past_key_values."
_TOKENS = ("last_hidden_state", "token_embeddings")
_TEXT = "sentence_embedding"


class Inputs:
    """Makes what a session is fed: ids and mask, and whatever else follows from them.

    Raises ProviderMisconfigured for an input that no text has, or one that takes only batches of one shape.
    """

    def __init__(self, entries: Sequence[Any], config: ModelConfig) -> None:
        self._makers: dict[str, tuple[Callable[[Ids, Ids], Value], Any]] = {}
        self._config = config
        for entry in entries:
            if entry.type not in _KINDS:
                raise refused(f"its ONNX file wants {entry.name} as {entry.type}")
            self._makers[entry.name] = (self._maker(entry), _KINDS[entry.type])
        if lacking := {"input_ids", "attention_mask"} - self._makers.keys():
            # Without a mask, a text's vector would depend on the texts beside it.
            raise refused(f"its ONNX file has no input {sorted(lacking)[-1]}")

    def feed(self, ids: Ids, mask: Ids) -> dict[str, Value]:
        """Return every input for int64 (batch, length) ids and mask, padded on the right."""
        return {
            name: make(ids, mask).astype(kind, copy=False)
            for name, (make, kind) in self._makers.items()
        }

    def _maker(self, entry: Any) -> Callable[[Ids, Ids], Value]:
        makers: dict[str, Callable[[Ids, Ids], Value]] = {
            "input_ids": lambda ids, mask: ids,
            "attention_mask": lambda ids, mask: mask,
            "token_type_ids": lambda ids, mask: np.zeros_like(ids),
            "position_ids": self._positions,
        }
        if entry.name.startswith(_CACHE):
            return _empty_cache(entry)
        if entry.name not in makers:
            raise refused(f"its ONNX file wants inputs that no text has ({entry.name})")
        if fixed := [size for size in entry.shape if isinstance(size, int)]:
            raise refused(
                f"its ONNX file takes only batches of one shape ({entry.name} has a fixed size {fixed[0]}): "
                "export it with dynamic axes"
            )
        return makers[entry.name]

    def _positions(self, ids: Ids, mask: Ids) -> Ids:
        first = self._config.first_position
        if first == 0:
            return np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        # RoBERTa's way: padding ids have no number of their own, wherever they stand.
        real = (ids != first - 1).astype(np.int64)
        return np.asarray(real.cumsum(axis=1) * real + first - 1)


def _empty_cache(entry: Any) -> Callable[[Ids, Ids], Value]:
    """A decoder's memory of earlier tokens, (batch, heads, 0, channels): there are none."""
    shape = entry.shape
    sizes = [isinstance(size, int) for size in shape]
    if sizes != [False, True, False, True]:
        raise refused(
            f"its ONNX file wants {entry.name} in a shape that is unknown here"
        )
    return lambda ids, mask: np.zeros((len(ids), shape[1], 0, shape[3]), np.float32)


@dataclass(frozen=True, slots=True)
class Output:
    """The output that is read: texts' vectors, (batch, width), if `pooled`, else tokens', (batch, length, width)."""

    name: str
    pooled: bool
    width: int

    def check(self, value: Value, ids: Ids) -> None:
        """Raise ProviderMisconfigured where a run answered another shape than the model's."""
        expected = (*(ids.shape[:1] if self.pooled else ids.shape), self.width)
        if value.shape != expected:
            raise refused(
                f"its ONNX file's {self.name} has the shape {value.shape}, not {expected}"
            )


def choose_output(entries: Sequence[Any], config: ModelConfig) -> Output:
    """Choose by name, else take the only output that can be token vectors. Raises ProviderMisconfigured."""
    by_name = {entry.name: entry for entry in entries}
    # A prompt that is left out of the pooling is not known to the file.
    texts = [_TEXT] if config.include_prompt and _TEXT in by_name else []
    named = [*texts, *(name for name in _TOKENS if name in by_name)]
    if named:
        pooled = named[0] == _TEXT
        output = Output(
            named[0], pooled, config.dimensions if pooled else config.hidden
        )
        entry = by_name[output.name]
        if entry.shape and not _fits(entry, output):
            raise refused(
                f"its ONNX file's {output.name} is {entry.type} {entry.shape}; the model's is of floats, "
                f"{output.width} wide"
            )
        return output
    candidates = [Output(name, pooled=False, width=config.hidden) for name in by_name]
    fitting = [each for each in candidates if _fits(by_name[each.name], each)]
    if len(fitting) != 1:
        outputs = ", ".join(name[:40] for name in list(by_name)[:8])
        raise refused(
            f"none of its ONNX file's outputs ({outputs}) can be identified as the vectors: name it last_hidden_state"
        )
    return fitting[0]


def _fits(entry: Any, output: Output) -> bool:
    """Whether an output is of floats, has the rank, and a width that is right or only known at a run."""
    rank = 2 if output.pooled else 3
    shape = list(entry.shape or ())
    return (
        entry.type in _FLOATS
        and len(shape) == rank
        and (not isinstance(shape[-1], int) or shape[-1] == output.width)
    )
