"""The huggingface plug-in as the server uses it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from providers.exceptions import ProviderMisconfigured, TextsTooLong, UnknownModel
from providers.plugins.huggingface import HuggingFaceProvider
from tests.providers.engine import tiny

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture
def folder(tmp_path):
    return tiny.write_model(tmp_path / "own" / "my-model")


@pytest.fixture
def provider(tmp_path, folder):
    made = HuggingFaceProvider.from_settings(
        {
            "data_dir": tmp_path / "data",
            "hub_endpoint": "http://127.0.0.1:9",
            "model_paths": (folder,),
            "threads": 1,
        }
    )
    yield made
    made.close()


def embed(provider, model, texts, input_type="document"):
    return provider.embed(
        model, texts, dimensions=None, input_type=input_type, timeout_seconds=30
    ).vectors


def test_the_default_model_comes_first_and_answers_to_its_short_name(provider):
    first = next(iter(provider.models()))
    assert (first.name, first.dimensions, first.max_tokens, first.vector_space) == (
        DEFAULT,
        384,
        256,
        DEFAULT,
    )
    assert provider.resolve("all-MiniLM-L6-v2") == first
    assert provider.local


def test_a_folder_of_the_operator_is_listed_with_its_own_figures(provider):
    spec = provider.resolve("my-model")
    assert (spec.dimensions, spec.max_tokens) == (tiny.HIDDEN, 32)


def test_embedding_without_weights_names_the_command(provider):
    model = provider.resolve(DEFAULT)
    assert provider.downloaded(model) is False
    with pytest.raises(
        ProviderMisconfigured, match=f"manage.py download_model {DEFAULT}"
    ):
        embed(provider, model, ["x"])
    with pytest.raises(ProviderMisconfigured, match="download_model"):
        provider.tokenizer(model)


def test_a_folder_is_prepared_loaded_and_served(provider):
    download = provider.download("my-model")
    model = provider.resolve("my-model")
    assert download.model == model
    assert download.size_bytes > 0
    assert (provider.downloaded(model), provider.loaded(model)) == (True, False)
    provider.warm_up(model, timeout_seconds=30)
    assert provider.loaded(model)
    vectors = embed(provider, model, ["abc", "d e f", "abc"])
    assert vectors.shape == (3, tiny.HIDDEN)
    assert np.array_equal(vectors[0], vectors[2])
    assert provider.healthy()


def test_counting_needs_no_weights_in_memory(provider):
    provider.download("my-model")
    model = provider.resolve("my-model")
    assert provider.tokenizer(model).count(["abc", "a b"]) == [5, 4]
    assert provider.loaded(model) is False


def test_texts_over_the_limit_are_rejected_with_their_tokens_and_never_cut(provider):
    provider.download("my-model")
    model = provider.resolve("my-model")
    assert len(embed(provider, model, ["a " * 30])) == 1
    with pytest.raises(TextsTooLong, match="exceed max tokens 32") as refused:
        embed(provider, model, ["a", "a " * 31])
    assert refused.value.tokens == {"a " * 31: 33}
    assert not refused.value.falls_back


def test_the_models_own_prompts_are_put_before_texts_and_count(provider, folder):
    settings = {
        "prompts": {"query": "q q ", "passage": "p "},
        "default_prompt_name": "query",
    }
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    provider.download("my-model")
    model = provider.resolve("my-model")
    assert (model.query_prompt, model.document_prompt) == ("q q ", "p ")
    assert not np.allclose(
        embed(provider, model, ["abc"], "query"), embed(provider, model, ["abc"])
    )
    with pytest.raises(TextsTooLong):
        embed(provider, model, ["a " * 30], "query")


def test_the_prompts_of_the_model_it_is_given_are_put_before_texts(provider):
    provider.download("my-model")
    model = provider.resolve("my-model")
    prompted = replace(model, query_prompt="q q ", document_prompt="")
    expected = embed(provider, model, ["q q abc", "abc"])
    assert np.allclose(embed(provider, prompted, ["abc"], "query"), expected[0])
    assert np.allclose(embed(provider, prompted, ["abc"]), expected[1])


def test_a_damaged_model_is_served_again_after_a_download(provider):
    path = provider.download("my-model").path
    model = provider.resolve("my-model")
    (path / "tokenizer.json").write_text("{}")
    with pytest.raises(ProviderMisconfigured, match=r"tokenizer\.json"):
        embed(provider, model, ["x"])
    provider.download("my-model")
    assert len(embed(provider, model, ["x"])) == 1


@pytest.mark.parametrize(
    "name", ["no-such-model", "../../etc/passwd", "/etc/passwd", "a/b/c", ""]
)
def test_names_that_can_be_no_model_are_unknown(provider, name):
    with pytest.raises(UnknownModel):
        provider.download(name)


def test_a_folder_that_is_no_model_is_not_listed(tmp_path, provider):
    other = tmp_path / "data" / "models" / "broken"
    other.mkdir(parents=True)
    (other / "config.json").write_text("{")
    assert provider.resolve("broken") is None


def needs_torch(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "mish"}))
    tiny.describe_tokenizer(folder)


def test_a_model_that_only_torch_can_run_names_the_extra_at_download(
    provider, folder, monkeypatch
):
    needs_torch(folder)
    monkeypatch.setattr("providers.engine.machine.has_torch", lambda: False)
    with pytest.raises(ProviderMisconfigured, match=r"embeddings-server\[torch\]"):
        provider.download("my-model")


@pytest.mark.torch
def test_a_model_prepared_with_torch_names_the_extra_where_it_is_gone(
    provider, folder, monkeypatch
):
    needs_torch(folder)
    assert provider.download("my-model").size_bytes
    monkeypatch.setattr("providers.engine.torch_runtime.has_torch", lambda: False)
    monkeypatch.setattr("providers.engine.prepared.has_torch", lambda: False)
    model = provider.resolve("my-model")
    with pytest.raises(ProviderMisconfigured, match=r"embeddings-server\[torch\]"):
        embed(provider, model, ["x"])
    assert "embeddings-server[torch]" in provider.serving(model).problem
