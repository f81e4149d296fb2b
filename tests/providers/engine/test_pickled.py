"""Pickled weights: torch makes safetensors of them once, when a model is prepared, and runs nothing in them."""

import json
import pickle

import numpy as np
import pytest
from safetensors.numpy import load_file

from providers.engine import machine
from providers.engine.pool import Pool, PoolLimits
from providers.engine.weights import Weights
from providers.exceptions import ProviderMisconfigured
from tests.providers.engine import tiny
from tests.providers.engine.test_pool import embed


@pytest.fixture
def pickled(tmp_path, torch_reference):
    """A model of pickled weights, two of which share their memory, and what it gives from safetensors."""
    torch = torch_reference.torch
    folder = tiny.write_model(tmp_path / "own" / "old")
    plain = Weights(tmp_path / "plain", model_paths=(folder,))
    plain.prepare("old")
    expected = vectors(plain)
    weights = {
        name: torch.from_numpy(value)
        for name, value in load_file(folder / "model.safetensors").items()
    }
    (folder / "model.safetensors").unlink()
    return folder, weights, expected


def vectors(weights):
    models = Pool(weights, PoolLimits(threads=1))
    found = embed(models, "old")
    models.close()
    return found


def test_pickled_weights_become_safetensors_once(tmp_path, torch_reference, pickled):
    folder, weights, expected = pickled
    torch_reference.torch.save(weights, folder / "pytorch_model.bin")
    served = Weights(tmp_path / "data", model_paths=(folder,))
    prepared = served.prepare("old")
    assert prepared.runtime == "graph"
    assert "model.safetensors" in prepared.manifest.files
    assert not any(
        name.endswith(".bin.index.json") or name == "pytorch_model.bin"
        for name in prepared.manifest.files
    )
    assert (folder / "pytorch_model.bin").exists()
    np.testing.assert_array_equal(vectors(served), expected)
    assert served.prepare("old").manifest == prepared.manifest


def test_shards_of_an_index_are_read_together(tmp_path, torch_reference, pickled):
    folder, weights, expected = pickled
    names = sorted(weights)
    parts = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
    for file, part in parts.items():
        torch_reference.torch.save(
            {name: weights[name] for name in part}, folder / file
        )
    places = {name: file for file, part in parts.items() for name in part}
    (folder / "pytorch_model.bin.index.json").write_text(
        json.dumps({"weight_map": places})
    )
    served = Weights(tmp_path / "data", model_paths=(folder,))
    prepared = served.prepare("old")
    assert not any("pytorch_model" in name for name in prepared.manifest.files)
    np.testing.assert_array_equal(vectors(served), expected)


def test_a_pickle_that_would_run_something_is_refused(
    tmp_path, torch_reference, pickled
):
    folder, weights, _ = pickled
    sign = tmp_path / "ran"

    class Runs:
        def __reduce__(self):
            return (type(sign).touch, (sign,))

    torch_reference.torch.save(
        {**weights, "extra": Runs()}, folder / "pytorch_model.bin"
    )
    served = Weights(tmp_path / "data", model_paths=(folder,))
    with pytest.raises(ProviderMisconfigured, match="cannot be converted"):
        served.prepare("old")
    assert not sign.exists()
    assert served.find("old") is None


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1, 2])])
def test_what_is_no_checkpoint_is_refused_by_name(tmp_path, pickled, content):
    folder, _, _ = pickled
    (folder / "pytorch_model.bin").write_bytes(content)
    served = Weights(tmp_path / "data", model_paths=(folder,))
    with pytest.raises(
        ProviderMisconfigured, match="pickled weights cannot be converted"
    ):
        served.prepare("old")


@pytest.mark.parametrize("shards", [{}, {"a": "../b.bin"}, {"a": ".hidden"}, []])
def test_an_index_that_names_no_files_beside_it_is_refused(tmp_path, pickled, shards):
    folder, _, _ = pickled
    (folder / "pytorch_model.bin.index.json").write_text(
        json.dumps({"weight_map": shards})
    )
    served = Weights(tmp_path / "data", model_paths=(folder,))
    with pytest.raises(ProviderMisconfigured, match=r"index\.json"):
        served.prepare("old")


def test_without_torch_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "has_torch", lambda: False)
    folder = tiny.write_model(tmp_path / "own" / "old")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ProviderMisconfigured, match=r"embeddings-server\[torch\]"):
        Weights(tmp_path / "data", model_paths=(folder,)).prepare("old")


def test_the_index_of_pickled_weights_beside_safetensors_is_no_matter(
    tmp_path, torch_reference
):
    folder = tiny.write_model(tmp_path / "own" / "old")
    (folder / "pytorch_model.bin.index.json").write_text(
        json.dumps({"weight_map": {"a": "b.bin"}})
    )
    served = Weights(tmp_path / "data", model_paths=(folder,))
    assert served.prepare("old").runtime == "graph"
