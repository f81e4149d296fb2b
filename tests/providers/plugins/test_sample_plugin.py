"""The plug-in in docs/, installed as a third party's and called."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.upstreams import OpenAIUpstream

ROOT = Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "docs" / "sample-plugin"
CALL = """
import json
from dataclasses import replace
from importlib.metadata import entry_points

(entry,) = entry_points(group="embeddings.providers", name="hashing")
kind = entry.load()
provider = kind.from_settings({})
(model,) = provider.models()
texts = ["the quick fox", "THE quick  fox", "something else"]
asked = {"dimensions": 256, "input_type": "document", "timeout_seconds": 5.0}
embedded = provider.embed(model, texts, **asked)
prompted = replace(model, document_prompt="the quick ")
of_prompted = provider.embed(prompted, ["fox"], **asked).vectors
print(json.dumps({
    "name": provider.name,
    "model": provider.resolve("hashing-words").name,
    "shape": embedded.vectors.shape,
    "dtype": str(embedded.vectors.dtype),
    "same": bool((embedded.vectors[0] == embedded.vectors[1]).all()),
    "other": bool((embedded.vectors[0] != embedded.vectors[2]).any()),
    "prompted": bool((of_prompted[0] == embedded.vectors[0]).all()),
    "tokens": embedded.prompt_tokens,
    "problem": provider.configuration_problem(),
}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install a copy of the sample, offline, into a folder of its own."""
    folder = tmp_path_factory.mktemp("third-party")
    source = folder / "source"
    for file in SAMPLE.rglob("*"):
        if file.suffix in {".py", ".toml"} and "build" not in file.parts:
            copy = source / file.relative_to(SAMPLE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    target = folder / "site"
    run(
        *("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--no-index", "--disable-pip-version-check", "--target", target, source),
    )
    return target


@pytest.mark.e2e
def test_installed_plug_in_is_found_and_embeds(installed):
    printed = json.loads(run("-c", CALL, path=[installed, ROOT]))

    assert printed == {
        "name": "hashing",
        "model": "hashing-words",
        "shape": [3, 256],
        "dtype": "float32",
        "same": True,
        "other": True,
        "prompted": True,
        "tokens": 8,
        "problem": None,
    }


@pytest.mark.e2e
def test_plug_in_needs_no_django(installed):
    code = CALL + "\nimport sys\nassert 'django' not in sys.modules"

    run("-c", code, path=[installed, ROOT])


def test_example_in_the_docs_embeds(monkeypatch):
    text = (ROOT / "docs" / "plugins.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(example, names)
    monkeypatch.setattr(OpenAIUpstream, "models", {"acme-embed": (1024, False)})

    with OpenAIUpstream() as upstream:
        options = {"api_key": upstream.api_key, "base_url": upstream.base_url}
        provider = names["AcmeProvider"].from_settings(options)
        vectors = provider.embed(
            provider.resolve("acme-embed"),
            ["text"] * 65,
            dimensions=None,
            input_type="document",
            timeout_seconds=5,
        ).vectors
        provider.close()

    assert vectors.shape == (65, 1024)
    assert len(upstream.calls) == 2


def run(*arguments, path=()):
    inherited = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    search = os.pathsep.join([*map(str, path), *inherited])
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
