"""The architectures with rotary positions that a graph can be built of. Standard library only.

Each follows a class of transformers 5: of the settings that the class reads, those that change vectors are followed or
refused. What the class does not read changes nothing here either.
"""

from collections.abc import Callable, Mapping

from providers.engine.graph.heads import FULL, SLIDING
from providers.engine.graph.rotary_config import (
    Names,
    RotaryConfig,
    Settings,
    activation,
    biases,
    decoder_sizes,
    flag,
    layer_kinds,
    number,
    only,
    sizes,
    theta,
    thetas,
    unsupported,
    whole,
)
from providers.engine.graph.settings import size

_ATTENTION = ("query", "key", "value", "output")
_TYPES = "embeddings.token_type_embeddings.weight"


def _modernbert(encoder: Settings) -> RotaryConfig:
    """ModernBertModel: norms before attention and feed-forward layers, two layers of three local."""
    every = whole(encoder, "global_attn_every_n_layers", 3)
    window = whole(encoder, "local_attention", 128) // 2
    only(encoder, "sliding_window", None, window)
    only(encoder, "head_dim", None)
    parts = {
        "attention_bias": _ATTENTION,
        "mlp_bias": ("gate", "up", "down"),
        "norm_bias": ("norm",),
    }
    old = {FULL: ("global_rope_theta", 160e3), SLIDING: ("local_rope_theta", 10e3)}
    return RotaryConfig(
        names=Names(
            words="embeddings.tok_embeddings.weight",
            embeddings_norm="embeddings.norm",
            linears={"output": "attn.Wo", "down": "mlp.Wo"},
            joined={"attn.Wqkv": _ATTENTION[:3], "mlp.Wi": ("gate", "up")},
            attention_norms={"before": "attn_norm"},
            feed_forward_norms={"before": "mlp_norm"},
            final_norm="final_norm",
        ),
        **sizes(encoder),
        kinds=layer_kinds(encoder, lambda index: index % every == 0),
        thetas=thetas(encoder, old),
        activation=activation(encoder, "hidden_activation", "gelu"),
        epsilon=number(encoder, "norm_eps", 1e-5),
        window=window,
        biased=biases(encoder, parts),
        bare_first=True,
    )


# What nomic-ai/nomic-bert-2048's code calls the settings of NomicBertConfig, and of its own that change vectors those
# values that transformers' class has built in. transformers reads the checkpoints of that code, too.
_NOMIC_FORMER = {
    "hidden_size": "n_embd",
    "intermediate_size": "n_inner",
    "layer_norm_eps": "layer_norm_epsilon",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "rope_theta": "rotary_emb_base",
}
_NOMIC_BUILT_IN: Mapping[str, tuple[object, ...]] = {
    "activation_function": ("swiglu",),
    "causal": (False,),
    "mlp_fc1_bias": (False,),
    "mlp_fc2_bias": (False,),
    "moe_every_n_layers": (None, 0),
    "parallel_block": (False,),
    "prenorm": (False,),
    "qkv_proj_bias": (False,),
    "rotary_emb_fraction": (1.0,),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_scale_base": (None,),
    "rotary_scaling_factor": (None,),
    "use_rms_norm": (None, False),
}


def _nomic(encoder: Settings) -> RotaryConfig:
    """NomicBertModel: norms after each sum."""
    if "n_embd" in encoder:
        for name, values in _NOMIC_BUILT_IN.items():
            if encoder.get(name) not in values:
                raise unsupported(name)
        encoder = {
            **encoder,
            **{new: encoder.get(old) for new, old in _NOMIC_FORMER.items()},
        }
    return RotaryConfig(
        names=Names(
            words="embeddings.word_embeddings.weight",
            types=_TYPES,
            embeddings_norm="embeddings.LayerNorm",
            joined={"self_attn.qkv": _ATTENTION[:3]},
            attention_norms={"sum": "post_attention_layernorm"},
            feed_forward_norms={"sum": "post_mlp_layernorm"},
            former=(
                (r"^encoder\.layers\.", "layers."),
                (r"^emb_ln\.", "embeddings.LayerNorm."),
                (r"\.attn\.Wqkv\.", ".self_attn.qkv."),
                (r"\.attn\.out_proj\.", ".self_attn.o_proj."),
                (r"\.fc11\.", ".up_proj."),
                (r"\.fc12\.", ".gate_proj."),
                (r"\.fc2\.", ".down_proj."),
                (r"\.norm1\.", ".post_attention_layernorm."),
                (r"\.norm2\.", ".post_mlp_layernorm."),
            ),
        ),
        **sizes(encoder),
        kinds=layer_kinds(encoder),
        thetas=theta(encoder, 1e3),
        activation=activation(encoder, "hidden_act", "silu"),
        epsilon=number(encoder, "layer_norm_eps", 1e-12),
        biased=frozenset({"norm"}),
    )


def _gte(encoder: Settings) -> RotaryConfig:
    """GteModel: as NomicBertModel, with biases; some have no token types."""
    typed = encoder.get("type_vocab_size", 1) != 0
    return RotaryConfig(
        names=Names(
            words="embeddings.word_embeddings.weight",
            types=_TYPES if typed else None,
            embeddings_norm="embeddings.LayerNorm",
            joined={
                "self_attn.qkv": _ATTENTION[:3],
                "mlp.up_gate_proj": ("up", "gate"),
            },
            attention_norms={"sum": "post_attention_layernorm"},
            feed_forward_norms={"sum": "post_mlp_layernorm"},
            former=(
                (r"^encoder\.layer\.", "layers."),
                (r"\.attention\.qkv_proj\.", ".self_attn.qkv."),
                (r"\.attention\.o_proj\.", ".self_attn.o_proj."),
                (r"\.attn_ln\.", ".post_attention_layernorm."),
                (r"\.mlp_ln\.", ".post_mlp_layernorm."),
            ),
        ),
        **sizes(encoder),
        kinds=layer_kinds(encoder),
        thetas=theta(encoder, 160e3),
        activation=activation(encoder, "hidden_act", "gelu"),
        epsilon=number(encoder, "layer_norm_eps", 1e-12),
        biased=frozenset({*_ATTENTION, "down", "norm"}),
    )


def _qwen3(encoder: Settings) -> RotaryConfig:
    """Qwen3Model: a causal decoder; heads share keys."""
    _causal(encoder)
    local = flag(encoder, "use_sliding_window")
    first = whole(encoder, "max_window_layers", 28)
    kinds = layer_kinds(encoder, lambda index: not local or index < first)
    if SLIDING in kinds and not local:
        raise unsupported("layer_types")
    return RotaryConfig(
        names=Names(
            words="embed_tokens.weight",
            attention_norms={"before": "input_layernorm"},
            feed_forward_norms={"before": "post_attention_layernorm"},
            head_norms={"query": "self_attn.q_norm", "key": "self_attn.k_norm"},
            final_norm="norm",
        ),
        **decoder_sizes(encoder),
        kinds=kinds,
        thetas=theta(encoder, 10e3),
        activation=activation(encoder, "hidden_act", "silu"),
        epsilon=number(encoder, "rms_norm_eps", 1e-6),
        window=size(encoder, ("sliding_window",)) - 1 if SLIDING in kinds else 0,
        causal=True,
        rms=True,
        biased=biases(encoder, {"attention_bias": _ATTENTION}),
    )


def _gemma3(encoder: Settings) -> RotaryConfig:
    """Gemma3TextModel: norms before and after all, five layers of six local. EmbeddingGemma sees both ways."""
    _causal(encoder)
    only(encoder, "attn_logit_softcapping", None)
    every = whole(encoder, "sliding_window_pattern", 6)
    kinds = layer_kinds(encoder, lambda index: (index + 1) % every == 0)
    both_ways = flag(encoder, "use_bidirectional_attention")
    window = size(encoder, ("sliding_window",)) if SLIDING in kinds else 1
    old = {FULL: ("rope_theta", 1e6), SLIDING: ("rope_local_base_freq", 10e3)}
    read = decoder_sizes(encoder)
    return RotaryConfig(
        names=Names(
            words="embed_tokens.weight",
            attention_norms={
                "before": "input_layernorm",
                "answer": "post_attention_layernorm",
            },
            feed_forward_norms={
                "before": "pre_feedforward_layernorm",
                "answer": "post_feedforward_layernorm",
            },
            head_norms={"query": "self_attn.q_norm", "key": "self_attn.k_norm"},
            final_norm="norm",
        ),
        **read | {"scale": number(encoder, "query_pre_attn_scalar", 256) ** -0.5},
        kinds=kinds,
        thetas=thetas(encoder, old),
        activation=activation(encoder, "hidden_activation", "gelu_pytorch_tanh"),
        epsilon=number(encoder, "rms_norm_eps", 1e-6),
        window=window // 2 if both_ways else window - 1,
        causal=not both_ways,
        rms=True,
        norm_offset=1.0,
        embedding_scale=read["hidden"] ** 0.5,
        biased=biases(encoder, {"attention_bias": _ATTENTION}),
    )


def _causal(encoder: Settings) -> None:
    if encoder.get("is_causal") not in (None, True):
        raise unsupported("is_causal")


_READERS: Mapping[str, Callable[[Settings], RotaryConfig]] = {
    "modernbert": _modernbert,
    "nomic_bert": _nomic,
    "gte": _gte,
    "qwen3": _qwen3,
    "gemma3_text": _gemma3,
}
# config.json's model_types.
ROTARY = frozenset(_READERS)


def read_rotary(encoder: Settings) -> RotaryConfig:
    """Read the config.json of a model_type in ROTARY. Raises Unbuildable, naming the setting, for what is not built."""
    return _READERS[str(encoder["model_type"])](encoder)
