"""The architectures that a graph can be built of: one row each, and how their config.json spells its settings."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Where transformers keeps an encoder's parameters, and what sets it apart.

    `positions_after_padding`: positions are counted from pad_token_id + 1, so that many rows of their table are never
    a text's. `padding`: the id that this count takes for padding, whatever config.json says. `token_types`: the
    checkpoint must hold their embeddings. `relative_bias`: a table of what attention adds by the distance of two
    tokens, (buckets, heads).
    """

    layer: str
    query: str
    key: str
    value: str
    attended: str
    attended_norm: str
    inner: str
    outer: str
    outer_norm: str
    positions_after_padding: bool = False
    padding: int | None = None
    token_types: bool = True
    relative_bias: str | None = None


_BERT = Architecture(
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
_ROBERTA = replace(_BERT, positions_after_padding=True)
# By config.json's model_type.
ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": Architecture(
        layer="transformer.layer.{}.",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attended="attention.out_lin",
        attended_norm="sa_layer_norm",
        inner="ffn.lin1",
        outer="ffn.lin2",
        outer_norm="output_layer_norm",
        token_types=False,
    ),
    "mpnet": replace(
        _ROBERTA,
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attended="attention.attn.o",
        attended_norm="attention.LayerNorm",
        padding=1,
        token_types=False,
        relative_bias="encoder.relative_attention_bias.weight",
    ),
}
# The last two are not built here; their exported graphs are numbered alike.
POSITIONS_AFTER_PADDING = frozenset(
    name for name, row in ARCHITECTURES.items() if row.positions_after_padding
) | {"longformer", "xlm-roberta-xl"}
# Of a relative bias: the rows of its table that are read, and the distance from which on all is one.
BUCKETS, FARTHEST = 32, 128

# The first of these names that config.json has is taken.
HIDDEN_SIZE = ("hidden_size", "dim", "d_model", "n_embd")
INNER_SIZE = ("intermediate_size", "hidden_dim")
HEADS = ("num_attention_heads", "n_heads")
LAYERS = ("num_hidden_layers", "n_layers")
# Operator, domain and attributes in ONNX, by transformers' names.
ACTIVATIONS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "gelu": ("Gelu", "", {}),
    "gelu_python": ("Gelu", "", {}),
    "gelu_new": ("Gelu", "", {"approximate": "tanh"}),
    "gelu_pytorch_tanh": ("Gelu", "", {"approximate": "tanh"}),
    "relu": ("Relu", "", {}),
    "sigmoid": ("Sigmoid", "", {}),
    "silu": ("QuickGelu", "com.microsoft", {"alpha": 1.0}),
    "swish": ("QuickGelu", "com.microsoft", {"alpha": 1.0}),
    "tanh": ("Tanh", "", {}),
}
