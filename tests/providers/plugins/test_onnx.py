"""The onnx plug-in: the same models from the same copy in memory."""

import numpy as np
import pytest

from providers.plugins.huggingface import HuggingFaceProvider
from providers.plugins.onnx import OnnxProvider
from tests.providers.engine import tiny


@pytest.fixture
def both(tmp_path):
    folder = tiny.write_model(tmp_path / "own" / "my-model")
    options = {
        "data_dir": tmp_path / "data",
        "model_paths": (folder,),
        "threads": 1,
        "hub_token": None,
    }
    providers = (
        HuggingFaceProvider.from_settings(options),
        OnnxProvider.from_settings(options),
    )
    yield providers
    providers[0].close()


def test_both_providers_list_the_same_models_in_the_same_space(both):
    first, second = (
        [(spec.name, spec.vector_space) for spec in provider.models()]
        for provider in both
    )
    assert first == second


def test_both_providers_share_one_loaded_copy(both):
    huggingface, onnx = both
    huggingface.download("my-model")
    model = onnx.resolve("my-model")
    onnx.warm_up(model, timeout_seconds=30)
    assert huggingface.loaded(model)
    vectors = [
        provider.embed(
            model, ["a b"], dimensions=None, input_type="query", timeout_seconds=30
        ).vectors
        for provider in both
    ]
    assert np.array_equal(*vectors)
