"""What a graph is built from, besides parameters: the encoder's config.json and the head. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from providers.engine.graph.architectures import (
    ACTIVATIONS,
    ARCHITECTURES,
    BUCKETS,
    HIDDEN_SIZE,
    POSITIONS_AFTER_PADDING,
)
from providers.engine.graph.rotary_families import ROTARY, read_rotary
from providers.engine.graph.settings import Unbuildable, size

# What changes a BERT-like encoder's vectors, and the values that are built. Without the setting, the first.
_SUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "position_embedding_type": ("absolute", None),
    "sinusoidal_pos_embds": (False, None),
    "is_decoder": (False, None),
    "relative_attention_num_buckets": (BUCKETS,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseConfig:
    """A linear layer after pooling; `folder` holds its weights."""

    folder: str
    in_features: int
    out_features: int
    bias: bool
    activation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphConfig:
    """An encoder, as transformers' config.json describes it, and what follows it, as sentence-transformers names it.

    `include_prompt` False: the graph answers token vectors, for pooling without the tokens of a prompt.
    """

    encoder: Mapping[str, Any]
    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    dense: tuple[DenseConfig, ...] = ()
    normalize: bool = False

    @property
    def model_type(self) -> str:
        """The architecture, as transformers calls it."""
        return str(self.encoder.get("model_type", ""))

    @property
    def hidden(self) -> int:
        """The width of token vectors."""
        return self.size(*HIDDEN_SIZE)

    @property
    def dimensions(self) -> int:
        """The width of a text's vector."""
        if self.dense:
            return self.dense[-1].out_features
        return self.hidden * (len(self.pooling) or 1)

    @property
    def pad_id(self) -> int:
        """The token id that fills up shorter texts of a batch. Where there is none, any will do: it is masked."""
        pad = int(self.encoder.get("pad_token_id") or 0)
        words = self.encoder.get("vocab_size")
        return 0 if pad < 0 or (words is not None and pad >= words) else pad

    @property
    def first_position(self) -> int:
        """The number of a text's first token in the position table."""
        if self.model_type not in POSITIONS_AFTER_PADDING:
            return 0
        row = ARCHITECTURES.get(self.model_type)
        if row is not None and row.padding is not None:
            return row.padding + 1
        pad = self.encoder.get("pad_token_id")
        return (1 if pad is None else int(pad)) + 1

    @property
    def activation(self) -> str:
        """The feed-forward layers' activation, as transformers calls it."""
        return str(
            self.encoder.get("hidden_act", self.encoder.get("activation", "gelu"))
        )

    @property
    def unsupported(self) -> str | None:
        """Why no graph can be built of such an encoder, or None. Whether its parameters fit, only they show."""
        if self.model_type in ROTARY:
            try:
                read_rotary(self.encoder)
            except Unbuildable as error:
                return str(error)
            return None
        if self.model_type not in ARCHITECTURES:
            return f"its architecture ({self.model_type[:40] or 'no model_type'}) is not supported"
        if self.activation not in ACTIVATIONS:
            return f"its activation ({self.activation[:40]}) is not supported"
        for name, supported in _SUPPORTED.items():
            if self.encoder.get(name, supported[0]) not in supported:
                return f"{name} in its config.json is not supported"
        return None

    @property
    def supported(self) -> bool:
        """Whether the encoder is one to build."""
        return self.unsupported is None

    def size(self, *names: str) -> int:
        """Return the first of these settings of config.json. Raises Unbuildable where none is a size."""
        return size(self.encoder, names)
