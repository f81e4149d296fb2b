"""A BERT-like encoder's parameters under one set of names. numpy and safetensors only."""

from providers.engine.graph.architectures import (
    ARCHITECTURES,
    BUCKETS,
    HEADS,
    INNER_SIZE,
    LAYERS,
)
from providers.engine.graph.checkpoint import (
    Array,
    Linear,
    Norm,
    Parameters,
    Shape,
    Tensors,
)
from providers.engine.graph.config import GraphConfig

_WORDS = "embeddings.word_embeddings.weight"
# Checkpoints converted from TensorFlow long ago say gamma and beta.
_FORMER = (
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
)


class BertCheckpoint:
    """The parameters of one encoder, read when asked for. Raises Unbuildable where the config asks for others."""

    def __init__(self, tensors: Tensors, config: GraphConfig) -> None:
        self._parameters = Parameters(tensors, _WORDS, _FORMER)
        self._names = ARCHITECTURES[config.model_type]
        self._layers = config.size(*LAYERS)
        self._parameters.check(self._shapes(config))

    def words(self) -> Array:
        """Word embeddings, (vocabulary, hidden)."""
        return self._parameters.array(_WORDS)

    def positions(self) -> Array:
        """Position embeddings, (positions, hidden), with those of token type 0 added: every token here has it."""
        positions = self._parameters.array("embeddings.position_embeddings.weight")
        types = "embeddings.token_type_embeddings.weight"
        return (
            positions + self._parameters.array(types)[0]
            if types in self._parameters.names
            else positions
        )

    def relative_bias(self) -> Array | None:
        """What attention adds by the distance of two tokens, (buckets, heads), if the architecture has such a table."""
        name = self._names.relative_bias
        return None if name is None else self._parameters.array(name)

    def embeddings_norm(self) -> Norm:
        """Normalisation after the embeddings."""
        return self._parameters.norm("embeddings.LayerNorm")

    def attention_inputs(self, layer: int) -> dict[str, Linear]:
        """Projections before attention, as `query`, `key` and `value`: weights (hidden, hidden)."""
        names = self._names
        parts = {"query": names.query, "key": names.key, "value": names.value}
        prefix = names.layer.format(layer)
        return {
            part: self._parameters.linear(prefix + name) for part, name in parts.items()
        }

    def attention_output(self, layer: int) -> Linear:
        """Projection after attention."""
        return self._parameters.linear(
            self._names.layer.format(layer) + self._names.attended
        )

    def attention_norm(self, layer: int) -> Norm:
        """Normalisation after attention."""
        return self._parameters.norm(
            self._names.layer.format(layer) + self._names.attended_norm
        )

    def inner(self, layer: int) -> Linear:
        """Feed-forward layer up: weight (hidden, intermediate)."""
        return self._parameters.linear(
            self._names.layer.format(layer) + self._names.inner
        )

    def outer(self, layer: int) -> Linear:
        """Feed-forward layer down: weight (intermediate, hidden)."""
        return self._parameters.linear(
            self._names.layer.format(layer) + self._names.outer
        )

    def outer_norm(self, layer: int) -> Norm:
        """Normalisation after the feed-forward layers."""
        return self._parameters.norm(
            self._names.layer.format(layer) + self._names.outer_norm
        )

    def _shapes(self, config: GraphConfig) -> dict[str, Shape]:
        """Return what the config asks for: shapes by name, None where it leaves a size open."""
        hidden = config.hidden
        inner = _known(config, *INNER_SIZE)
        sides = {"inner": (inner, hidden), "outer": (hidden, inner)}
        shapes: dict[str, Shape] = {
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
        for index in range(min(self._layers, len(self._parameters.names))):
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


def _known(config: GraphConfig, *names: str) -> int | None:
    return (
        config.size(*names) if any(name in config.encoder for name in names) else None
    )
