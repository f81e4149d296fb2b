"""Models that the benchmark builds."""

import json

import pytest
from safetensors.numpy import load_file

from benchmarks.models import MINILM_SHAPE, Shape, build_model

TINY = Shape(layers=2, hidden=8, inner=16, heads=2)


@pytest.fixture
def minilm(tmp_path):
    folder = tmp_path / "minilm"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"hidden_size": 384, "vocab_size": 30522})
    )
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "graph-v3.onnx").write_bytes(b"prepared")
    return folder


def read(file):
    return json.loads(file.read_text())


def test_a_model_of_another_shape_has_weights_of_that_shape(minilm, tmp_path):
    built = tmp_path / "tiny"

    build_model(TINY, minilm, built)

    config = read(built / "config.json")
    weights = load_file(built / "model.safetensors")
    assert (config["hidden_size"], config["vocab_size"]) == (8, 30522)
    assert weights["encoder.layer.1.intermediate.dense.weight"].shape == (16, 8)
    assert "encoder.layer.2.output.dense.weight" not in weights
    assert read(built / "sentence_bert_config.json")["max_seq_length"] == 512


def test_minilm_keeps_its_weights_and_nothing_that_was_prepared_of_them(
    minilm, tmp_path
):
    built = tmp_path / "minilm-512"

    build_model(MINILM_SHAPE, minilm, built)

    assert (built / "model.safetensors").read_bytes() == b"weights"
    assert not (built / "graph-v3.onnx").exists()
