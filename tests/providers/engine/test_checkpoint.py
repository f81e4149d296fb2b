"""A checkpoint is built from only where its parameters are exactly those that its config asks for."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from providers.engine.building import build_graph
from providers.engine.graph import GRAPH_FILE
from providers.engine.model_config import read_model_config
from providers.engine.onnx_runtime import OnnxRuntime
from providers.engine.runtime import Row
from providers.exceptions import ProviderMisconfigured
from tests.providers.engine import tiny


@pytest.fixture
def folder(tmp_path):
    return tiny.write_model(tmp_path / "m")


def change(folder, *, add=(), drop=(), rename=str):
    """Rewrite the checkpoint: parameters added, dropped by a part of their name, and renamed."""
    path = folder / "model.safetensors"
    tensors = {
        rename(name): tensor
        for name, tensor in load_file(path).items()
        if not any(part in name for part in drop)
    }
    save_file(tensors | dict(add), path)


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def vectors(folder):
    config = read_model_config(folder)
    build_graph(folder, config)
    row = Row(np.array([2, 5, 6, 3]), "")
    return OnnxRuntime(folder / GRAPH_FILE, config, threads=1).run([row])


def test_layers_that_the_file_lacks_are_named(folder):
    configure(folder, num_hidden_layers=3)
    with pytest.raises(
        ProviderMisconfigured, match=r"lacks parameters \(encoder\.layer\.2\..* more\)"
    ):
        vectors(folder)


def test_layers_that_the_config_does_not_count_are_named(folder):
    configure(folder, num_hidden_layers=1)
    with pytest.raises(
        ProviderMisconfigured, match=r"holds parameters \(encoder\.layer\.1\..* more\)"
    ):
        vectors(folder)


@pytest.mark.parametrize(
    "drop",
    ["LayerNorm.bias", "token_type_embeddings", "query.weight", "position_embeddings"],
)
def test_any_parameter_that_is_missing_is_fatal(folder, drop):
    change(folder, drop=[drop])
    with pytest.raises(ProviderMisconfigured, match="lacks parameters"):
        vectors(folder)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layer.0.attention.self.rotary.scale",
        "encoder.layer.1.mlp.gated_layers.weight",
        "emb_ln.weight",
        "final_norm.weight",
    ],
)
def test_parameters_of_another_architecture_are_fatal(folder, name):
    change(folder, add={name: np.ones(4, np.float32)})
    with pytest.raises(ProviderMisconfigured, match=name):
        vectors(folder)


def test_poolers_task_heads_and_buffers_are_not(folder):
    expected = vectors(folder)
    odd = ("pooler.dense.weight", "cls.predictions.bias", "embeddings.position_ids")
    change(folder, add={name: np.ones(4, np.float32) for name in odd})
    assert np.array_equal(vectors(folder), expected)


def test_a_task_models_prefix_and_old_names_of_norms_are_understood(folder):
    expected = vectors(folder)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def rename(name):
        for new, former in old.items():
            name = name.replace(new, former)
        return f"bert.{name}"

    change(folder, rename=rename, add={"my_head.weight": np.ones(3, np.float32)})
    assert np.array_equal(vectors(folder), expected)


def test_two_encoders_in_one_file_are_refused(folder):
    change(folder, rename="query.{}".format)
    again = {
        f"document.{n[6:]}": t
        for n, t in load_file(folder / "model.safetensors").items()
    }
    change(folder, add=again)
    with pytest.raises(ProviderMisconfigured, match="2 tables of word embeddings"):
        vectors(folder)


@pytest.mark.parametrize(
    "changes",
    [{"intermediate_size": 64}, {"max_position_embeddings": 60}, {"vocab_size": 9}],
)
def test_parameters_of_another_shape_than_the_config_says_are_refused(folder, changes):
    configure(folder, **changes)
    with pytest.raises(ProviderMisconfigured, match="another shape"):
        vectors(folder)


def test_parameters_that_are_not_floats_are_refused(folder):
    name = "encoder.layer.0.output.dense.weight"
    change(folder, add={name: np.ones((tiny.HIDDEN, tiny.INNER), np.int8)})
    with pytest.raises(ProviderMisconfigured, match=r"output\.dense\.weight"):
        vectors(folder)


def test_other_safetensors_beside_the_checkpoint_are_not_read(folder):
    expected = vectors(folder)
    other = tiny.write_model(folder.parent / "other", seed=9) / "model.safetensors"
    other.rename(folder / "model_finetuned_old.safetensors")
    assert np.array_equal(vectors(folder), expected)


def shard(folder):
    """Split the checkpoint into two files and an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for index, name in enumerate(sorted(tensors)):
        weight_map[name] = f"model-0000{index % 2 + 1}-of-00002.safetensors"
    for file in set(weight_map.values()):
        part = {name: tensors[name] for name in tensors if weight_map[name] == file}
        save_file(part, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def test_shards_are_read_by_their_index(folder):
    expected = vectors(folder)
    shard(folder)
    stray = {"encoder.layer.0.output.dense.bias": np.ones(tiny.HIDDEN, np.float32)}
    save_file(stray, folder / "model-00003-of-00003.safetensors")
    assert np.array_equal(vectors(folder), expected)


def test_a_shard_that_is_absent_is_refused(folder):
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ProviderMisconfigured, match="absent"):
        vectors(folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", ".hidden"])
def test_an_index_cannot_point_outside_its_folder(folder, name):
    shard(folder).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ProviderMisconfigured, match="no file beside it"):
        vectors(folder)


@pytest.mark.parametrize(
    "tensors",
    [
        {"linear.weight": np.ones((7, 15), np.float32)},
        {"linear.weight": np.ones((7, 16), np.float32)},
        {
            "linear.weight": np.ones((7, 16), np.float32),
            "linear.bias": np.ones(7, np.float32),
            "residual.weight": np.ones((7, 16), np.float32),
        },
    ],
)
def test_a_dense_layer_of_other_parameters_than_described_is_refused(folder, tensors):
    dense = {"in_features": tiny.HIDDEN, "out_features": 7, "bias": True}
    tiny.write_modules(folder, dense=dense)
    save_file(tensors, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(ProviderMisconfigured, match="2_Dense"):
        vectors(folder)
