"""The catalogue: models by all names that people know, what they take, and the prompts that their cards name."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from providers.engine import listed_models, space
from providers.engine.hub import Hub
from providers.engine.listed_models import catalogue
from providers.engine.model_config import read_model_config
from providers.engine.weights import Weights
from providers.exceptions import ProviderMisconfigured
from providers.plugins.huggingface import HuggingFaceProvider
from tests.providers.engine import tiny
from tests.providers.engine.fake_hub import NAME, FakeHub
from tests.servers import serving

NOMIC = "nomic-ai/nomic-embed-text-v1.5"
E5 = "intfloat/multilingual-e5-small"
SPECS = list(catalogue().values())


@pytest.fixture
def provider(tmp_path):
    made = HuggingFaceProvider.from_settings(
        {"data_dir": tmp_path / "data", "process": "inline"}
    )
    made.engine.weights._reference = None
    yield made
    made.close()


def prepare(provider, tmp_path, name, **settings):
    folder = tiny.write_model(tmp_path / "data" / "models" / name.replace("/", "--"))
    content = json.dumps(settings)
    (folder / "config_sentence_transformers.json").write_text(content)
    provider.download(name)
    spec = provider.resolve(name)
    assert spec is not None
    return spec


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_entry_is_sound(spec):
    card = spec.card
    assert card is not None
    assert all(0 < size <= spec.dimensions for size in card.matryoshka)
    assert card.download_bytes <= card.disk_bytes
    assert card.parameters * 4 == card.memory_bytes
    for prompt in (card.query_prompt, card.document_prompt):
        assert not prompt or prompt.endswith((": ", "Query:"))


def test_no_name_means_two_models():
    names = [
        name
        for spec in SPECS
        for name in (spec.name, *spec.aliases, *spec.common_names)
    ]
    assert len(names) == len(set(names))


def test_every_field_of_the_file_is_read():
    path = Path(listed_models.__file__).with_name("catalogue.json")
    fields = {key for entry in json.loads(path.read_bytes()) for key in entry}
    assert fields == {
        "name",
        "dimensions",
        "max_tokens",
        "parameters",
        "stored",
        "licence",
        "languages",
        "pooling",
        "matryoshka",
        "query_prompt",
        "document_prompt",
        "common_names",
        "gated",
        "static",
    }


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("nomic-embed-text", NOMIC),
        ("nomic-embed-text:latest", NOMIC),
        ("nomic-embed-text-v1.5", NOMIC),
        ("all-minilm", "sentence-transformers/all-MiniLM-L6-v2"),
        ("all-minilm:33m", "sentence-transformers/all-MiniLM-L12-v2"),
        ("all-minilm:33m-l12-v2-fp16", "sentence-transformers/all-MiniLM-L12-v2"),
        ("bge-large:335m", "BAAI/bge-large-en-v1.5"),
        ("bge-m3", "BAAI/bge-m3"),
        ("qwen3-embedding:0.6b", "Qwen/Qwen3-Embedding-0.6B"),
        ("snowflake-arctic-embed", "Snowflake/snowflake-arctic-embed-l"),
    ],
)
def test_a_model_is_found_by_the_names_that_people_know(provider, asked, name):
    assert provider.resolve(asked).name == name


@pytest.mark.parametrize(
    "asked", ["qwen3-embedding", "granite-embedding", "paraphrase-multilingual"]
)
def test_no_name_of_ollamas_means_another_model(provider, asked):
    assert provider.resolve(asked) is None


def test_a_bare_common_name_is_claimed_by_a_prepared_model_alone(provider, tmp_path):
    for name in (NOMIC, "BAAI/bge-m3"):
        assert not {*provider.resolve(name).common_names} & {
            *provider.resolve(name).aliases
        }
    tiny.write_model(tmp_path / "data" / "models" / NOMIC.replace("/", "--"))
    assert provider.resolve(NOMIC).aliases == ("nomic-embed-text-v1.5",)
    spec = prepare(provider, tmp_path, NOMIC)
    assert {"nomic-embed-text-v1.5", "nomic-embed-text"} <= {*spec.aliases}


def test_a_folder_wins_over_a_common_name(provider, tmp_path):
    prepare(provider, tmp_path, NOMIC)
    tiny.write_model(tmp_path / "data" / "models" / "nomic-embed-text")
    assert provider.resolve("nomic-embed-text").name == "nomic-embed-text"


def test_prompts_of_the_card_are_recommended_where_the_files_name_none(
    provider, tmp_path
):
    assert provider.resolve(E5).recommended_prompts is None  # who knows its files?
    spec = prepare(provider, tmp_path, E5)
    assert (spec.query_prompt, spec.document_prompt) == ("", "")
    assert spec.recommended_prompts == ("query: ", "passage: ")
    own = {"query": "query: ", "document": "passage: "}
    spec = prepare(provider, tmp_path, "intfloat/multilingual-e5-base", prompts=own)
    assert spec.recommended_prompts is None


@pytest.fixture
def disk(monkeypatch):
    """Return a function that says how many bytes are free."""

    def have(free):
        usage = shutil.disk_usage("/")._replace(free=free)
        monkeypatch.setattr("providers.engine.space.disk_usage", lambda path: usage)

    return have


def test_a_disk_too_small_is_refused_before_weights_are_fetched(tmp_path, disk):
    repository = tiny.write_model(tmp_path / "repository")
    disk(1000)
    with serving(FakeHub(repository)) as hub:
        weights = Weights(tmp_path / "data", hub=Hub(endpoint=hub.endpoint))
        with pytest.raises(
            ProviderMisconfigured, match=r"GB are free in .*free some space.*DATA_DIR"
        ):
            weights.prepare(NAME)
        assert not any("model.safetensors" in path for _, path, _, _ in hub.requests)
        disk(10_000_000)
        assert weights.prepare(NAME).runtime == "graph"


def test_a_folder_that_does_not_fit_is_not_copied(tmp_path, disk):
    folder = tiny.write_model(tmp_path / "mine")
    disk(1000)
    weights = Weights(tmp_path / "data", model_paths=(folder,))
    with pytest.raises(ProviderMisconfigured, match="mine takes about"):
        weights.prepare("mine")


def test_what_was_fetched_before_counts_as_free(tmp_path, disk):
    (tmp_path / "whole.safetensors").write_bytes(bytes(600))
    (tmp_path / "of-another.json").write_bytes(bytes(5000))
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.incomplete").write_bytes(bytes(300))
    disk(200)
    names = ["whole.safetensors", "part.safetensors"]
    space.check_space(tmp_path, "a", 1100, names)
    with pytest.raises(ProviderMisconfigured):
        space.check_space(tmp_path, "a", 1101, names)


def test_a_graph_takes_more_of_half_precision_files(tmp_path):
    config = read_model_config(tiny.write_model(tmp_path / "m"))
    assert space.needed_bytes(config, "onnx", 400) == 540
    assert space.needed_bytes(config, "graph", 400) == 940
    halves = replace(config, encoder={**config.encoder, "torch_dtype": "bfloat16"})
    assert space.needed_bytes(halves, "graph", 400) == 1480
    assert space.needed_bytes(config, "static", 400) == 400
