"""What an encoder with rotary positions is, once its config.json is read, and how settings are read from that.

Standard library only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from providers.engine.graph.architectures import ACTIVATIONS
from providers.engine.graph.heads import FULL, SLIDING, Heads
from providers.engine.graph.settings import Unbuildable, is_whole, size

# A model with more is none; each position is a row of a table.
_MOST_LAYERS, _MOST_POSITIONS = 1024, 1 << 18
_ROPE_SETTINGS = frozenset({"rope_type", "type", "rope_theta"})

Settings = Mapping[str, Any]
# Around attention and feed-forward layers: before them, on their answer, and on the sum of that and their input.
Place = Literal["before", "answer", "sum"]
LINEARS = ("query", "key", "value", "output", "gate", "up", "down")
_APART = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Where a checkpoint keeps its parameters; those of a layer without the layer's prefix.

    `linears` by LINEARS. `joined`: what may lie in one parameter instead, in that order, and always does where
    `linears` has no name for it. `former`: pairs of a pattern in older checkpoints and what it is called today.
    `attention_norms` and `feed_forward_norms` by place; `head_norms` of each head's query and key.
    """

    words: str
    types: str | None = None
    embeddings_norm: str | None = None
    layer: str = "layers.{}."
    linears: Mapping[str, str] = field(default_factory=lambda: _APART)
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attention_norms: Mapping[Place, str] = field(default_factory=dict)
    feed_forward_norms: Mapping[Place, str] = field(default_factory=dict)
    head_norms: Mapping[str, str] = field(default_factory=dict)
    final_norm: str | None = None
    former: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryConfig(Heads):
    """An encoder with rotary positions (arXiv:2104.09864) and gated feed-forward layers.

    `thetas`: the base of the rotations of each kind of layers. `rms`: norms divide by the root mean square instead of
    normalising; `norm_offset` is added to their scales. `biased`: which of LINEARS, and "norm", have a bias.
    `bare_first`: the first layer has no norm before attention.
    """

    names: Names
    hidden: int
    inner: int
    vocabulary: int
    positions: int
    thetas: Mapping[str, float]
    activation: str
    epsilon: float
    rms: bool = False
    norm_offset: float = 0.0
    embedding_scale: float = 1.0
    biased: frozenset[str] = frozenset()
    bare_first: bool = False


def sizes(encoder: Settings) -> dict[str, Any]:
    """Read the sizes that all encoders have, as RotaryConfig's. Raises Unbuildable, as all below."""
    hidden, heads = (
        size(encoder, (name,)) for name in ("hidden_size", "num_attention_heads")
    )
    if encoder.get("head_dim") is None and hidden % heads:
        raise Unbuildable(
            f"its {hidden} channels cannot be shared among {heads} attention heads"
        )
    head_size = whole(encoder, "head_dim", hidden // heads)
    if head_size % 2:
        raise Unbuildable(f"its heads of {head_size} channels cannot be rotated")
    positions = size(encoder, ("max_position_embeddings",))
    if positions > _MOST_POSITIONS:
        raise Unbuildable("max_position_embeddings in its config.json is too large")
    return {
        "hidden": hidden,
        "inner": size(encoder, ("intermediate_size",)),
        "heads": heads,
        "key_heads": heads,
        "head_size": head_size,
        "vocabulary": size(encoder, ("vocab_size",)),
        "positions": positions,
        "scale": head_size**-0.5,
    }


def decoder_sizes(encoder: Settings) -> dict[str, Any]:
    """Read `sizes` where heads may share keys, and say how large they are."""
    read = sizes(encoder)
    read["head_size"] = size(encoder, ("head_dim",))
    read["key_heads"] = size(encoder, ("num_key_value_heads",))
    if read["heads"] % read["key_heads"]:
        raise Unbuildable(
            f"its {read['heads']} attention heads cannot share {read['key_heads']} keys"
        )
    return read


def layer_kinds(
    encoder: Settings, full: Callable[[int], bool] | None = None
) -> tuple[str, ...]:
    """Read each layer's attention; where it is not listed, `full` says it of a layer's number. Without that, all is."""
    layers = size(encoder, ("num_hidden_layers",))
    if layers > _MOST_LAYERS:
        raise Unbuildable("num_hidden_layers in its config.json is too large")
    if full is None:
        return (FULL,) * layers
    kinds = encoder.get("layer_types")
    if kinds is None:
        return tuple(FULL if full(index) else SLIDING for index in range(layers))
    if (
        not isinstance(kinds, Sequence)
        or len(kinds) != layers
        or any(kind not in (FULL, SLIDING) for kind in kinds)
    ):
        raise unsupported("layer_types")
    return tuple(kinds)


def theta(encoder: Settings, default: float) -> dict[str, float]:
    """Read the one base of all rotations."""
    _refuse_scaling(encoder)
    found = _theta(
        encoder.get("rope_parameters"), number(encoder, "rope_theta", default)
    )
    return {FULL: found, SLIDING: found}


def thetas(encoder: Settings, old: Mapping[str, tuple[str, float]]) -> dict[str, float]:
    """Read the base of each kind's rotations; `old` has each kind's name in older files, and its default."""
    _refuse_scaling(encoder)
    by_kind = encoder.get("rope_parameters") or {}
    if not isinstance(by_kind, dict) or by_kind.keys() - {FULL, SLIDING}:
        raise unsupported("rope_parameters")
    return {
        kind: _theta(by_kind.get(kind), number(encoder, name, default))
        for kind, (name, default) in old.items()
    }


def _refuse_scaling(encoder: Settings) -> None:
    only(encoder, "rope_scaling", None, {})
    only(encoder, "partial_rotary_factor", None, 1)


def _theta(parameters: object, default: float) -> float:
    """Read one base; none but plain rotations are built."""
    parameters = parameters or {}
    if (
        not isinstance(parameters, dict)
        or parameters.keys() - _ROPE_SETTINGS
        or parameters.get("rope_type", parameters.get("type", "default")) != "default"
    ):
        raise unsupported("rope_parameters")
    return number(parameters, "rope_theta", default)


def activation(encoder: Settings, name: str, default: str) -> str:
    """Read an activation."""
    found = str(encoder.get(name, default))
    if found not in ACTIVATIONS:
        raise Unbuildable(f"its activation ({found[:40]}) is not supported")
    return found


def biases(encoder: Settings, parts: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Return those parts whose setting, a flag that is false by default, says that they have a bias."""
    found: set[str] = set()
    for name, named in parts.items():
        if flag(encoder, name):
            found.update(named)
    return frozenset(found)


def only(encoder: Settings, name: str, *supported: object) -> None:
    """Raise for a setting with another value than these; the first is what counts without it."""
    if encoder.get(name, supported[0]) not in supported:
        raise unsupported(name)


def flag(encoder: Settings, name: str) -> bool:
    """Read what is true or false, and false by default."""
    value = encoder.get(name)
    if value is not None and not isinstance(value, bool):
        raise unsupported(name)
    return bool(value)


def whole(encoder: Settings, name: str, default: int) -> int:
    """Read a size; null is the default."""
    return default if encoder.get(name) is None else size(encoder, (name,))


def number(encoder: Settings, name: str, default: float) -> float:
    """Read a number above 0."""
    value = encoder.get(name, default)
    if (is_whole(value) or isinstance(value, float)) and 0 < value < 1e12:
        return float(value)
    raise Unbuildable(f"{name} in its config.json is not a number above 0")


def unsupported(name: str) -> Unbuildable:
    """Return the error for a setting that is not built."""
    return Unbuildable(f"{name} in its config.json is not supported")
