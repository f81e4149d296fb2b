"""The onnx plug-in: the same models, in int8."""

import numpy as np
import pytest
from structlog.testing import capture_logs

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


def embed(provider, texts):
    model = provider.resolve("my-model")
    return provider.embed(
        model, texts, dimensions=None, input_type="query", timeout_seconds=30
    ).vectors


def test_the_fast_graph_answers_nearly_what_the_exact_one_does(both):
    both[0].download("my-model")
    exact, fast = (embed(provider, ["a b", "c"]) for provider in both)
    assert not np.array_equal(exact, fast)
    assert (exact * fast).sum(axis=1).min() > 0.97


def test_each_provider_tells_of_its_own_copy_whether_it_is_loaded(both):
    huggingface, onnx = both
    huggingface.download("my-model")
    model = onnx.resolve("my-model")
    onnx.warm_up(model, timeout_seconds=30)
    assert (huggingface.loaded(model), onnx.loaded(model)) == (False, True)


def test_a_model_that_int8_serves_badly_is_served_exactly_from_one_copy(
    both, monkeypatch
):
    monkeypatch.setattr("providers.engine.building.FAST_COSINE", 1.1)
    huggingface, onnx = both
    huggingface.download("my-model")
    exact, fast = (embed(provider, ["a b"]) for provider in both)
    assert np.array_equal(exact, fast)
    assert huggingface.engine.pool.model("my-model") is onnx.engine.pool.model(
        "my-model", "fast"
    )


def test_the_text_that_int8_serves_worst_is_named(both, monkeypatch):
    monkeypatch.setattr("providers.engine.building.FAST_COSINE", 1.1)
    with capture_logs() as logs:
        both[0].download("my-model")
    refused = [entry for entry in logs if entry["event"] == "fast_graph_refused"]
    assert len({entry["file"] for entry in refused}) == 3  # by each method
    for entry in refused:
        assert entry["worst_text"]
        assert entry["below"] == entry["texts"] > 100
        assert entry["least"] < entry["mean"]
