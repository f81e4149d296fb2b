import subprocess
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from embeddings_project import env, upstreams
from providers.built_in import built_in
from providers.registry import registry
from tests.contract.cases import REMOTE_CASES

ROOT = Path(__file__).parents[2]
ACME = """
class AcmeProvider(RemoteProvider):
    name = "acme"
    fallback: ClassVar[tuple[str, ...]] = ("onnx",)
    key_variable = "ACME_API_KEY"
    other_key_variables = ("ACME_TOKEN",)
    url_variable = "ACME_BASE_URL"
    choices = {"ACME_REGION": ("eu", "us")}
    limits = Limits(max_items=1)
"""


def folder_with(tmp_path, source):
    folder = tmp_path / "providers" / "plugins"
    folder.mkdir(parents=True)
    (folder / "acme.py").write_text(source)
    return folder


@pytest.mark.parametrize("one", built_in(), ids=lambda one: one.name)
def test_what_is_read_from_the_source_is_what_the_class_says(one):
    module, _, name = one.place.partition(":")
    provider = getattr(import_module(module), name)
    read = {key: value for key, value in asdict(one).items() if key != "place"}
    assert {key: getattr(provider, key, type(read[key])()) for key in read} == read


def test_a_file_is_a_provider_with_its_variables(tmp_path, monkeypatch):
    folder = folder_with(tmp_path, ACME)
    (acme,) = built_in(folder)
    assert acme.place == "providers.plugins.acme:AcmeProvider"
    assert acme.fallback == ("onnx",)
    assert acme.variables == (
        "ACME_API_KEY",
        "ACME_TOKEN",
        "ACME_BASE_URL",
        "ACME_REGION",
    )
    monkeypatch.setattr(upstreams, "built_in", lambda: built_in(folder))
    given = {"ACME_TOKEN": "k", "ACME_BASE_URL": "http://a", "ACME_REGION": "us"}
    read = env.Env(given)
    options = upstreams.read_providers(
        read, data_dir=tmp_path, engine={}, timeout_seconds=9
    )
    read.finish()
    wanted = {"api_key": "k", "base_url": "http://a", "region": "us"}
    assert wanted.items() <= options["acme"].items()


def test_what_only_running_the_module_could_tell_is_refused(tmp_path):
    source = ACME.replace('"ACME_API_KEY"', "key_of(name)")
    with pytest.raises(TypeError, match="key_variable of providers"):
        built_in(folder_with(tmp_path, source))


def test_providers_are_listed_in_their_order():
    first, then = ("openai", "huggingface", "onnx", "local_api"), ("cohere", "voyage")
    assert registry().installed()[:6] == first + then


def test_every_remote_provider_has_a_case_in_the_contract_suite():
    remote = {one.name for one in built_in() if one.key_variable}
    assert remote <= {case.name for case in REMOTE_CASES}


def test_fallbacks_by_default_are_providers_there_are():
    names = {one.name for one in built_in()}
    assert {name for one in built_in() for name in one.fallback} <= names


def test_every_providers_variables_are_documented():
    page = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    for one in built_in():
        assert not [name for name in (one.name, *one.variables) if name not in page]


@pytest.mark.parametrize("name", [n for one in built_in() for n in one.variables])
def test_near_miss_of_a_providers_variable_is_refused(name):
    read = env.Env({name[:-1]: "x"})
    read.text(name)
    with pytest.raises(ImproperlyConfigured, match=f"did you mean {name}"):
        read.finish()


def test_settings_import_no_arithmetic_and_no_http(tmp_path):
    code = "import sys, embeddings_project.settings; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"numpy", "httpx2", "onnxruntime"} & set(loaded)
