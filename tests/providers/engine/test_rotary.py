"""Encoders with rotary positions against the same tiny random models run by torch."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from providers.engine.graph import attention
from providers.engine.graph.rotary_encoder import rotations
from providers.engine.graph.rotary_families import ROTARY
from providers.engine.model_config import read_model_config
from providers.engine.runtime import Row, rows_of
from providers.engine.tokenizer import ModelTokenizer
from providers.exceptions import ProviderMisconfigured
from tests.providers.engine import tiny
from tests.providers.engine.test_graph import built, close, rows

LAYERS = {"num_hidden_layers": 4}
SLIDING = ["sliding_attention", "full_attention"] * 2
# What each family's class reads of config.json, in other values than the defaults that the other tests have.
VARIANTS = {
    "modernbert": [
        LAYERS,
        {"attention_bias": True, "mlp_bias": True, "norm_bias": True},
        {**LAYERS, "layer_types": SLIDING, "local_attention": 6},
        {"hidden_activation": "silu", "norm_eps": 0.5},
        {"rope_parameters": {"full_attention": {"rope_theta": 3.0}}},
        {**LAYERS, "local_attention": 2, "num_attention_heads": 2},
    ],
    "nomic_bert": [
        {"hidden_act": "gelu", "layer_norm_eps": 0.5},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 2.0}},
        {"head_dim": 6},
    ],
    "gte": [
        {"type_vocab_size": 0},
        {"hidden_act": "relu", "layer_norm_eps": 0.5},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 2.0}},
    ],
    "qwen3": [
        {"attention_bias": True, "num_key_value_heads": 1},
        {
            **LAYERS,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
        },
        {"sliding_window": 5, "max_window_layers": 1},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 2.0}},
        {"rms_norm_eps": 0.5, "hidden_act": "gelu", "head_dim": 4},
    ],
    "gemma3_text": [
        {"use_bidirectional_attention": False, "sliding_window": 5},
        {**LAYERS, "layer_types": SLIDING, "sliding_window": 7},
        {"query_pre_attn_scalar": 1, "rms_norm_eps": 0.5},
        {"attention_bias": True, "hidden_activation": "gelu"},
        {"rope_parameters": {"sliding_attention": {"rope_theta": 3.0}}},
        {"layer_types": None, "num_hidden_layers": 6},
    ],
}
CASES = [(family, variant) for family in VARIANTS for variant in VARIANTS[family]]
# Each setting that the class reads and that is not built, and what the reason must name.
REFUSED = [
    ("modernbert", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    ("modernbert", {"rope_parameters": {"rope_theta": 10.0}}),
    ("modernbert", {"layer_types": ["full_attention", "chunked_attention"]}),
    ("modernbert", {"layer_types": ["full_attention"]}),
    ("modernbert", {"hidden_activation": "mish"}),
    ("modernbert", {"sliding_window": 3}),
    ("modernbert", {"norm_bias": "yes"}),
    ("nomic_bert", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}),
    ("nomic_bert", {"rope_theta": -1}),
    ("gte", {"rope_parameters": {"rope_type": "default", "factor": 2.0}}),
    ("gte", {"partial_rotary_factor": 0.5}),
    ("qwen3", {"is_causal": False}),
    ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}),
    ("qwen3", {"num_key_value_heads": 3}),
    ("qwen3", {"head_dim": 7}),
    ("gemma3_text", {"is_causal": False}),
    ("gemma3_text", {"attn_logit_softcapping": 50.0}),
    ("gemma3_text", {"query_pre_attn_scalar": 0}),
    ("gemma3_text", {"sliding_window": None}),
]
NAMED = {"hidden_activation": "mish", "num_key_value_heads": "3 keys", "head_dim": "7"}


def mean_of(torch_reference):
    return [torch_reference.Pooling(tiny.HIDDEN), torch_reference.Normalize()]


def configure(folder, *drop, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    for name in drop:
        del config[name]
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(("family", "variant"), CASES)
def test_every_setting_that_changes_vectors_is_followed(
    tmp_path, torch_reference, family, variant
):
    settings = {**torch_reference.FAMILIES[family][1], **variant}
    if "num_hidden_layers" in variant and "layer_types" not in variant:
        settings.pop("layer_types", None)
    encoder = torch_reference.save_encoder(tmp_path, family, **settings)
    tiny.write_modules(tmp_path)
    expected = torch_reference.run(encoder, rows(), mean_of(torch_reference))
    close(built(tmp_path).run(rows()), expected)


LONG_CASES = [
    (family, {}) for family in (*VARIANTS, "bert", "roberta", "distilbert")
] + [
    ("qwen3", VARIANTS["qwen3"][1]),
    ("qwen3", {"num_key_value_heads": 4}),
    ("gemma3_text", {"use_bidirectional_attention": False, "sliding_window": 5}),
]


@pytest.mark.parametrize(("family", "variant"), LONG_CASES)
def test_texts_whose_attention_is_taken_in_pieces_have_torch_s_vectors(
    tmp_path, torch_reference, monkeypatch, family, variant
):
    monkeypatch.setattr(attention, "LONG", 8)
    monkeypatch.setattr(attention, "_PIECE", 7)
    monkeypatch.setattr(attention, "_UNMASKED_PIECE", 6)
    monkeypatch.setattr(attention, "_LEAST_PIECE", 5)
    settings = {**torch_reference.FAMILIES[family][1], **variant}
    encoder = torch_reference.save_encoder(tmp_path, family, **settings)
    tiny.write_modules(tmp_path)
    runtime = built(tmp_path)
    expected = torch_reference.run(encoder, rows(), mean_of(torch_reference))
    close(runtime.run(rows()), expected)
    close(np.concatenate([runtime.run([row]) for row in rows()]), expected)


@pytest.mark.parametrize("family", ["modernbert", "xlm-roberta"])
def test_a_text_of_thousands_of_tokens_has_torch_s_vector(
    tmp_path, torch_reference, family
):
    extra = {"max_position_embeddings": 2502}
    encoder = torch_reference.save_encoder(tmp_path, family, **extra)
    tiny.write_modules(tmp_path)
    random = np.random.default_rng(2)
    texts = [Row(random.integers(5, 60, length), "") for length in (5, 1025, 2500)]
    expected = torch_reference.run(encoder, texts, mean_of(torch_reference))
    runtime = built(tmp_path)
    close(runtime.run(texts), expected)
    long = texts[-1]
    close(runtime.run([long, long]), expected[[-1, -1]])  # without padding


@pytest.mark.parametrize(("family", "change"), REFUSED)
def test_every_setting_that_is_not_built_is_refused_by_name(
    tmp_path, torch_reference, family, change
):
    torch_reference.save_encoder(tmp_path, family)
    tiny.write_modules(tmp_path)
    assert read_model_config(tmp_path).buildable
    configure(tmp_path, **change)
    config = read_model_config(tmp_path)
    [name] = change
    assert not config.buildable
    assert NAMED.get(name, name) in str(config.unsupported)


OLDER = [
    (
        "modernbert",
        ("rope_parameters", "layer_types"),
        {
            "global_rope_theta": 160000.0,
            "local_rope_theta": 10000.0,
            "global_attn_every_n_layers": 3,
            "rope_scaling": None,
        },
    ),
    ("qwen3", ("rope_parameters", "layer_types"), {"rope_theta": 10000.0}),
    ("nomic_bert", ("rope_parameters",), {}),
    ("gte", ("rope_parameters",), {"rope_theta": 160000.0}),
    (
        "gemma3_text",
        ("rope_parameters",),
        {"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0},
    ),
    ("gemma3_text", ("layer_types",), {"sliding_window_pattern": 2}),
]


@pytest.mark.parametrize(("family", "drop", "older"), OLDER)
def test_older_spellings_of_config_json_mean_the_same(
    tmp_path, torch_reference, family, drop, older
):
    torch_reference.save_encoder(tmp_path, family)
    tiny.write_modules(tmp_path)
    expected = built(tmp_path).run(rows())
    configure(tmp_path, *drop, **older)
    assert np.array_equal(built(tmp_path).run(rows()), expected)


JOINED = {
    "nomic_bert": {
        "encoder.layers.": "layers.",
        "emb_ln.": "embeddings.LayerNorm.",
        "attn.out_proj": "self_attn.o_proj",
        "fc11": "up_proj",
        "fc12": "gate_proj",
        "fc2": "down_proj",
        "norm1": "post_attention_layernorm",
        "norm2": "post_mlp_layernorm",
    },
    "gte": {
        "encoder.layer.": "layers.",
        "attention.o_proj": "self_attn.o_proj",
        "attn_ln": "post_attention_layernorm",
        "mlp_ln": "post_mlp_layernorm",
    },
}


@pytest.mark.parametrize("family", JOINED)
def test_parameters_that_are_kept_apart_are_read_as_well(
    tmp_path, torch_reference, family
):
    torch_reference.save_encoder(tmp_path, family)
    tiny.write_modules(tmp_path)
    expected = built(tmp_path).run(rows())
    apart = {}
    for stored, tensor in load_file(tmp_path / "model.safetensors").items():
        name = stored
        for old, new in JOINED[family].items():
            name = name.replace(old, new)
        parts = [name]
        if "qkv" in name.lower():
            prefix, kind = name.split("att")[0], name.rsplit(".", 1)[1]
            parts = [f"{prefix}self_attn.{part}_proj.{kind}" for part in "qkv"]
        if "up_gate" in name:
            parts = [name.replace("up_gate", part) for part in ("up", "gate")]
        pieces = np.split(tensor, len(parts))
        apart |= {
            f"gte.{part}": piece for part, piece in zip(parts, pieces, strict=True)
        }
    save_file(apart, tmp_path / "model.safetensors")
    assert np.array_equal(built(tmp_path).run(rows()), expected)


NOMIC = {
    "activation_function": "swiglu",
    "auto_map": {
        "AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
        "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel",
    },
    "causal": False,
    "layer_norm_epsilon": 1e-12,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "model_type": "nomic_bert",
    "n_embd": tiny.HIDDEN,
    "n_head": 4,
    "n_inner": tiny.INNER,
    "n_layer": 2,
    "n_positions": 64,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "type_vocab_size": 2,
    "use_rms_norm": False,
    "vocab_size": 60,
}


def test_nomic_s_own_config_means_what_transformers_class_does(
    tmp_path, torch_reference
):
    encoder = torch_reference.save_encoder(tmp_path, "nomic_bert")
    tiny.write_modules(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(NOMIC))
    expected = torch_reference.run(encoder, rows(), mean_of(torch_reference))
    close(built(tmp_path).run(rows()), expected)


@pytest.mark.parametrize(
    "change",
    [
        {"activation_function": "gelu"},
        {"causal": True},
        {"rotary_emb_fraction": 0.5},
        {"rotary_scaling_factor": 2.0},
        {"moe_every_n_layers": 2},
        {"use_rms_norm": True},
        {"auto_map": {"AutoModel": "somebody/code--modeling.Own"}},
    ],
)
def test_nomic_s_own_config_with_another_computation_is_not_built(tmp_path, change):
    tiny.write_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(NOMIC))
    assert read_model_config(tmp_path).buildable
    (tmp_path / "config.json").write_text(json.dumps(NOMIC | change))
    config = read_model_config(tmp_path)
    assert not config.buildable
    assert "remote code" in str(config.onnx_only)


@pytest.mark.parametrize("family", sorted(ROTARY))
def test_a_layer_that_the_file_lacks_is_named(tmp_path, torch_reference, family):
    torch_reference.save_encoder(tmp_path, family)
    tiny.write_modules(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({n: t for n, t in load_file(path).items() if ".1." not in n}, path)
    with pytest.raises(ProviderMisconfigured, match=r"lacks parameters \(layers\.1\."):
        built(tmp_path)


@pytest.mark.parametrize("theta", [1000.0, 160000.0])
def test_rotations_are_torch_s_at_eight_thousand_tokens(torch_reference, theta):
    transformers, torch = torch_reference.transformers, torch_reference.torch
    parameters = {"rope_type": "default", "rope_theta": theta}
    config = transformers.NomicBertConfig(rope_parameters=parameters, head_dim=64)
    rotary = transformers.models.nomic_bert.modeling_nomic_bert
    module = rotary.NomicBertRotaryEmbedding(config)
    expected = module(torch.zeros(1), torch.arange(8192)[None])
    for found, table in zip(rotations(theta, 64, 8192), expected, strict=True):
        assert np.abs(found - table[0, :, :32].numpy()).max() < 1e-3


TEXTS = ["a", "b c d", "one two three four", "über 中文 🎉", "x" * 9, "word " * 40]


def whole(torch_reference, folder, family, pooling, dense=(), *, prompts, **described):
    """Save a whole model as sentence-transformers does; return its folder, and the model loaded from that."""
    torch_reference.save_encoder(folder, family, vocab_size=len(tiny.WORDS))
    tiny.write_tokenizer(folder)
    tiny.write_modules(folder, {"pooling_mode": pooling}, normalize=False)
    parts = torch_reference.whole(folder, **described)
    modules = [parts[0], parts[1], *dense, torch_reference.Normalize()]
    saved = torch_reference.sentence_transformers.SentenceTransformer(
        modules=modules, prompts=prompts, device="cpu"
    )
    saved.save(str(folder / "saved"))
    return folder / "saved", saved.eval()


def found_and_expected(folder, model, kind):
    config = read_model_config(folder)
    runtime = built(folder)
    tokenizer = ModelTokenizer.from_file(folder / "tokenizer.json")
    longest = model.max_seq_length
    texts = [tokenizer.truncate(text, longest - 12) for text in TEXTS]
    encode = model.encode_query if kind == "query" else model.encode_document
    expected = encode(texts, batch_size=4, show_progress_bar=False)
    prompted = rows_of(tokenizer, texts, config.prompt(kind), pooled=True)
    return runtime.run(prompted), expected


@pytest.mark.parametrize("kind", ["query", "document"])
def test_a_decoder_s_last_token_is_pooled_whatever_side_torch_pads(
    tmp_path, torch_reference, kind
):
    folder, model = whole(
        torch_reference,
        tmp_path,
        "qwen3",
        "lasttoken",
        prompts={"query": "q a: ", "document": ""},
        padding_side="left",
    )
    assert model.tokenizer.padding_side == "left"
    close(*found_and_expected(folder, model, kind))


@pytest.mark.parametrize("kind", ["query", "document"])
def test_embeddinggemma_s_dense_layers_and_prompts_are_followed(
    tmp_path, torch_reference, kind
):
    identity = torch_reference.torch.nn.Identity()
    dense = [
        torch_reference.Dense(size, out, bias=False, activation_function=identity)
        for size, out in ((tiny.HIDDEN, 24), (24, 10))
    ]
    folder, model = whole(
        torch_reference,
        tmp_path,
        "gemma3_text",
        "mean",
        dense,
        prompts={"query": "task: q", "document": "title: a b"},
    )
    assert read_model_config(folder).dimensions == 10
    close(*found_and_expected(folder, model, kind))


@pytest.mark.parametrize("family", ["modernbert", "nomic_bert", "gte"])
def test_an_encoder_s_first_token_is_pooled(tmp_path, torch_reference, family):
    folder, model = whole(torch_reference, tmp_path, family, "cls", prompts={})
    close(*found_and_expected(folder, model, "document"))
