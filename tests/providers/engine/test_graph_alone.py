"""The graph package by itself, as its README shows it: nothing else of the project is needed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from providers.engine import building, graph
from providers.engine.graph.architectures import ACTIVATIONS, ARCHITECTURES
from providers.engine.graph.build import build_graph
from providers.engine.graph.config import GraphConfig
from providers.engine.graph.rotary_families import ROTARY
from providers.engine.graph.settings import Unbuildable
from providers.engine.model_config import read_model_config
from providers.engine.onnx_runtime import OnnxRuntime
from providers.engine.runtime import Row
from tests.providers.engine import tiny
from tests.providers.engine.test_graph import FAMILIES

README = Path(graph.__file__).with_name("README.md").read_text()
PROJECT = Path(__file__).parents[3]
REPORT = """
import sys
answer = {"ids": ids.tolist(), "vectors": vectors.tolist(), "modules": sorted(sys.modules)}
answer["fast"] = onnxruntime.InferenceSession(fast).run(None, feed)[0].tolist()
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """What the README's own code computes for a tiny model, and what it has imported."""
    folder = tmp_path_factory.mktemp("alone")
    tiny.write_model(folder / "model")
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.S | re.M)
    finished = subprocess.run(
        [sys.executable, "-c", "\n".join([*blocks, REPORT])],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return folder / "model", json.loads(finished.stdout)


def test_the_readme_s_example_gives_the_engine_s_vectors(example, tmp_path):
    _, answer = example
    folder = tiny.write_model(tmp_path / "m")
    config = read_model_config(folder)
    building.build_graph(folder, config)
    runtime = OnnxRuntime(folder / graph.GRAPH_FILE, config, threads=1)
    expected = runtime.run([Row(np.array(ids), "") for ids in answer["ids"]])
    assert np.allclose(answer["vectors"], expected, atol=1e-6)


def test_the_readme_s_int8_graph_is_near_the_exact_one(example):
    _, answer = example
    assert (np.array(answer["fast"]) * answer["vectors"]).sum() > 0.97


def test_the_example_imports_nothing_else_of_the_project(example):
    _, answer = example
    apps = ("embeddings_project", "embeddings", "media_jobs", "providers", "django")
    own = {name for name in answer["modules"] if name.partition(".")[0] in apps}
    outside = {name for name in own if not name.startswith(graph.__name__)}
    assert outside == {"providers", "providers.engine"}


def test_the_readme_and_the_comparison_with_torch_name_every_architecture():
    assert set(FAMILIES) == {*ARCHITECTURES, *ROTARY}
    section = README.partition("## Architectures")[2].partition("To add one")[0]
    named = set(re.findall(r"`([\w-]+)`", section))
    assert named == {*ARCHITECTURES, *ROTARY, *ACTIVATIONS}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "deberta-v2"}, "deberta-v2"),
        ({"hidden_act": "mish"}, "mish"),
        ({"is_decoder": True}, "is_decoder"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ],
)
def test_what_is_not_supported_is_refused_and_named(tmp_path, change, named):
    folder = tiny.write_model(tmp_path / "m", **change)
    encoder = json.loads((folder / "config.json").read_text())
    with pytest.raises(Unbuildable, match=named):
        build_graph(folder, GraphConfig(encoder=encoder))
