"""What a folder says of itself: read, or refused by a sentence that says why; never anything else."""

import copy
import json
import os
import random

import pytest

from providers.engine.building import build_graph
from providers.engine.model_config import read_model_config
from providers.exceptions import ProviderMisconfigured
from providers.plugins.huggingface import HuggingFaceProvider
from tests.providers.engine import tiny

POTION = {
    "model_type": "model2vec",
    "architectures": ["StaticModel"],
    "hidden_dim": 64,
    "normalize": True,
}
CLIP = {
    "model_type": "clip",
    "text_config": {"hidden_size": 64},
    "vision_config": {"hidden_size": 64},
}
NESTED = {"model_type": "qwen3_vl", "text_config": {"hidden_size": 64}}


def described(folder, **files):
    """Write JSON files by their stems into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, content in files.items():
        (folder / f"{stem}.json").write_text(json.dumps(content))
    return folder


def modules(*kinds, package="sentence_transformers.models"):
    return [{"path": "", "type": f"{package}.{kind}"} for kind in kinds]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            {"config": POTION, "modules": modules("Transformer", "Pooling")},
            r"static model's \(model2vec\), and its modules.json begins with Transf",
        ),
        ({"config": POTION | {"max_length": "512"}}, "max_length"),
        ({"config": CLIP}, "multimodal model such as CLIP"),
        ({"modules": modules("CLIPModel")}, "multimodal"),
        ({"config": NESTED}, "multimodal"),
        ({"modules": modules("Router")}, "first module is a Router"),
        ({"config": {"model_type": "bert"}}, "does not say hidden_size"),
        ({"config": {"hidden_size": "384"}}, "hidden_size .* is not a size"),
        ({"config": {"hidden_size": -1}}, "hidden_size .* is not a size"),
        ({"config": [1, 2]}, "config.json is not a JSON object"),
        ({}, "has no config.json"),
        (
            {"config": {"hidden_size": 8, "vocab_size": "30522"}},
            "vocab_size .* whole number",
        ),
        (
            {
                "config": {
                    "hidden_size": 8,
                    "architectures": ["XForTokenClassification"],
                }
            },
            "reranker or classifier",
        ),
        (
            {
                "config": {"hidden_size": 8},
                "config_sentence_transformers": {"model_type": "CrossEncoder"},
            },
            r"reranker or classifier \(CrossEncoder\)",
        ),
        (
            {
                "config": {"hidden_size": 8},
                "config_sentence_transformers": {"model_type": "SparseEncoder"},
            },
            "SparseEncoder",
        ),
        (
            {"config": {"hidden_size": 8}, "adapter_config": {"peft_type": "LORA"}},
            "adapter",
        ),
        (
            {
                "config": {"hidden_size": 8},
                "tokenizer_config": {"auto_map": {"AutoTokenizer": ["a.B", None]}},
            },
            "tokenizer needs remote code",
        ),
        (
            {
                "config": {"hidden_size": 8},
                "config_sentence_transformers": {"prompts": {"query": 3}},
            },
            "prompts",
        ),
        (
            {
                "config": {"hidden_size": 8},
                "modules": [
                    {
                        "path": "0_Transformer",
                        "type": "sentence_transformers.models.Transformer",
                    }
                ],
            },
            "0_Transformer",
        ),
        (
            {
                "config": {"hidden_size": 8},
                "modules": [
                    *modules("Transformer"),
                    {"path": "x/../..", "type": "sentence_transformers.models.Pooling"},
                ],
            },
            "outside of the model",
        ),
        (
            {"config": {"hidden_size": 8}, "modules": modules("Transformer")},
            "names no Pooling",
        ),
    ],
)
def test_the_reason_why_a_folder_is_no_model_is_said(tmp_path, files, reason):
    with pytest.raises(ProviderMisconfigured, match=reason):
        read_model_config(described(tmp_path / "m", **files))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"hidden_size": Infinity}',
        b'{"hidden_size": 1e999}',
        b'{"hidden_size": ' + b"9" * 5000 + b"}",
        b'{"hidden_size": 8, "architectures": 3}',
        b'{"hidden_size": 8, "model_type": ["bert"], "max_position_embeddings": 8}',
        b" " * ((1 << 24) + 1),
    ],
)
def test_a_config_that_cannot_be_read_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ProviderMisconfigured):
        read_model_config(tmp_path)


def test_a_pipe_or_a_folder_in_place_of_a_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ProviderMisconfigured):
        read_model_config(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ProviderMisconfigured):
        read_model_config(tmp_path)


@pytest.mark.parametrize("config", [POTION, CLIP, NESTED, [], {"hidden_size": None}])
def test_a_folder_that_is_no_model_does_not_stop_the_listing_of_others(
    tmp_path, config
):
    odd = described(tmp_path / "odd", config=config)
    good = tiny.write_model(tmp_path / "good")
    provider = HuggingFaceProvider.from_settings(
        {"data_dir": tmp_path / "data", "model_paths": (odd, good)}
    )
    names = {model.name for model in provider.models()}
    assert "good" in names
    assert "odd" not in names
    provider.close()


def whole_model(folder):
    """Write a model with every kind of description, and return the names of its JSON files."""
    tiny.write_model(
        folder, model_type="roberta", pad_token_id=1, max_position_embeddings=40
    )
    dense = {"in_features": 16, "out_features": 6, "bias": True}
    tiny.write_modules(folder, {"pooling_mode_cls_token": True}, dense=dense)
    described(
        folder,
        config_sentence_transformers={"prompts": {"query": "q: ", "document": ""}},
        tokenizer_config={"model_max_length": 512, "auto_map": {}},
    )
    names = [path for path in folder.rglob("*.json") if path.name != "tokenizer.json"]
    return sorted(names)


ODD = [None, True, -1, 0, 3, 2**70, 1.5, float("inf"), "", "8", "../x", [], [[1]], {}]


def mutated(content, source):
    """Change one thing somewhere in a JSON value."""
    value = copy.deepcopy(content)
    parent, places = value, []
    while isinstance(parent, dict | list) and parent:
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        places.append((parent, source.choice(keys)))
        parent = parent[places[-1][1]]
    if not places or source.random() < 0.05:
        return copy.deepcopy(source.choice(ODD))
    parent, key = source.choice(places)
    kind = source.random()
    if kind < 0.3 and isinstance(parent, dict):
        del parent[key]
    elif kind < 0.4 and isinstance(parent, dict):
        parent[str(source.choice(["vision_config", "auto_map", "dim"]))] = parent[key]
    else:
        parent[key] = copy.deepcopy(source.choice(ODD))
    return value


def test_whatever_is_changed_in_a_models_files_it_is_read_or_refused(tmp_path):
    folder = tmp_path / "m"
    names = whole_model(folder)
    originals = {path: path.read_text() for path in names}
    assert read_model_config(folder).dimensions == 6
    source, refused = random.Random(7), 0
    for _ in range(500):
        chosen = source.sample(names, source.choice([1, 1, 2]))
        for path in chosen:
            path.write_text(json.dumps(mutated(json.loads(originals[path]), source)))
        try:
            config = read_model_config(folder)
            assert config.dimensions > 0
            assert config.pad_id >= 0
            assert isinstance(config.prompt("query"), str)
            assert config.buildable in (True, False)
        except ProviderMisconfigured as error:
            assert error.message.startswith("The model cannot be served: ")
            refused += 1
        for path in chosen:
            path.write_text(originals[path])
    assert 60 < refused < 480


def test_whatever_is_changed_in_the_encoders_config_a_graph_is_built_or_refused(
    tmp_path,
):
    folder = tiny.write_model(tmp_path / "m")
    original = json.loads((folder / "config.json").read_text())
    source, built = random.Random(8), 0
    for _ in range(120):
        (folder / "config.json").write_text(json.dumps(mutated(original, source)))
        try:
            config = read_model_config(folder)
            if config.buildable:
                build_graph(folder, config)
                built += 1
        except ProviderMisconfigured:
            pass
    assert 3 < built < 100


def with_dense(folder, **dense):
    described = {"in_features": tiny.HIDDEN, "out_features": 6, "bias": True}
    tiny.write_model(folder)
    tiny.write_modules(folder, dense=described | dense)
    return folder


@pytest.mark.parametrize(
    ("dense", "reason"),
    [
        ({"in_features": 15}, "takes vectors of 15 numbers and gets 16"),
        ({"activation_function": "own.Tanh"}, "remote code for its activation"),
        ({"out_features": "6"}, "out_features .* is not a size"),
        ({"bias": "no"}, "bias .* neither true nor false"),
    ],
)
def test_a_dense_layer_that_makes_no_sense_is_refused(tmp_path, dense, reason):
    with pytest.raises(ProviderMisconfigured, match=reason):
        read_model_config(with_dense(tmp_path / "m", **dense))


@pytest.mark.parametrize(
    "dense",
    [
        {"use_residual": True},
        {"activation_function": "torch.nn.modules.activation.SiLU"},
        {"module_input_name": "token_embeddings"},
        {"module_output_name": "other"},
    ],
)
def test_a_dense_layer_of_another_kind_is_left_to_sentence_transformers(
    tmp_path, dense
):
    assert read_model_config(with_dense(tmp_path / "a")).foreign is None
    config = read_model_config(with_dense(tmp_path / "b", **dense))
    assert config.foreign is not None
    assert not config.buildable


@pytest.mark.parametrize("order", [[0, 1, 3, 2], [0, 1, 1, 2], [0, 2, 1, 3]])
def test_modules_in_an_order_that_is_not_known_here_are_left_to_it_too(tmp_path, order):
    folder = with_dense(tmp_path / "m")
    listed = json.loads((folder / "modules.json").read_text())
    described(folder, modules=[listed[place] for place in order])
    assert read_model_config(folder).foreign is not None


def test_a_model_whose_prompt_is_pooled_apart_has_no_dense_layer_in_its_graph(tmp_path):
    folder = with_dense(tmp_path / "m")
    assert read_model_config(folder).buildable
    described(folder / "1_Pooling", config={"include_prompt": False})
    assert not read_model_config(folder).buildable


def test_heads_that_do_not_share_the_channels_are_refused(tmp_path):
    folder = tiny.write_model(tmp_path / "m", num_attention_heads=3)
    with pytest.raises(ProviderMisconfigured, match="cannot be shared among 3"):
        build_graph(folder, read_model_config(folder))


def test_settings_that_only_sentence_transformers_heeds_leave_the_graph_to_it(tmp_path):
    folder = tiny.write_model(tmp_path / "m")
    assert read_model_config(folder).buildable
    for settings in (
        {"config_args": {"num_hidden_layers": 1}},
        {"tokenizer_args": {"add_special_tokens": False}},
        {"transformer_task": "fill-mask"},
    ):
        described(folder, sentence_bert_config=settings)
        assert not read_model_config(folder).buildable
    described(folder, sentence_bert_config={"tokenizer_args": {"padding_side": "left"}})
    assert read_model_config(folder).buildable


def test_the_older_names_of_the_transformers_settings_count(tmp_path):
    folder = tiny.write_model(tmp_path / "m")
    (folder / "sentence_bert_config.json").rename(
        folder / "sentence_distilbert_config.json"
    )
    described(
        folder, sentence_distilbert_config={"max_seq_length": 9, "do_lower_case": True}
    )
    config = read_model_config(folder)
    assert (config.max_tokens, config.lower_case) == (9, True)


def test_a_bare_causal_model_takes_the_last_token(tmp_path):
    causal = {"hidden_size": 8, "architectures": ["QwenForCausalLM"]}
    config = read_model_config(described(tmp_path, config=causal))
    assert config.pooling == ("lasttoken",)


def test_the_padding_id_lies_inside_the_vocabulary(tmp_path):
    for pad, expected in ((-1, 0), (None, 0), (5, 5), (99, 0)):
        config = {"hidden_size": 8, "pad_token_id": pad, "vocab_size": 50}
        assert read_model_config(described(tmp_path, config=config)).pad_id == expected
