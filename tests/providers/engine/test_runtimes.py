"""Models that only sentence-transformers runs."""

import importlib.metadata
import json
import shutil
import weakref
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from providers.base import InputType
from providers.engine import machine, torch_export, torch_runtime
from providers.engine.machine import usable_cores
from providers.engine.pool import Pool, PoolLimits
from providers.engine.runtime import Row
from providers.engine.torch_runtime import TorchRuntime
from providers.engine.weights import Weights
from providers.exceptions import ProviderMisconfigured
from providers.plugins.huggingface import HuggingFaceProvider
from tests.collector import collector_off
from tests.providers.engine import tiny


@pytest.fixture(autouse=True)
def _not_exported(monkeypatch):
    """What could be exported would run without torch."""
    monkeypatch.setattr(torch_export, "export", lambda *_: "a test has it so")


def prepare(tmp_path, folder):
    weights = Weights(tmp_path / "data", model_paths=(folder,))
    return weights, weights.prepare(folder.name)


def embed(pool, name, texts):
    model = pool.model(name)
    rows = [
        Row(ids, text)
        for ids, text in zip(model.tokenizer.encode(texts), texts, strict=True)
    ]
    return tiny.run(model, rows, seconds=60)


@pytest.fixture
def torch_only(tmp_path):
    """A model that no graph is built for, since its activation is none of those a graph has."""
    return write_torch_only(tmp_path / "torch_only")


def write_torch_only(folder):
    tiny.write_model(folder, hidden_act="mish")
    tiny.describe_tokenizer(folder)
    return folder


@pytest.fixture
def reference(torch_reference):
    """Return a function that loads a folder with sentence-transformers."""
    return partial(
        torch_reference.sentence_transformers.SentenceTransformer, device="cpu"
    )


def load(tmp_path, folder):
    weights, prepared = prepare(tmp_path, folder)
    assert prepared.runtime == "torch"
    return Pool(weights, PoolLimits(threads=1))


def test_sentence_transformers_runs_what_no_graph_is_built_for(
    tmp_path, torch_only, reference
):
    texts = ["a", "b c d", "e f"]
    expected = reference(str(torch_only)).encode(texts)
    pool = load(tmp_path, torch_only)
    assert np.abs(embed(pool, "torch_only", texts) - expected).max() < 1e-5
    assert pool.tokenizer("torch_only").count(["a b"]) == [4]
    pool.close()


@pytest.mark.torch
def test_a_torch_model_is_unloaded_for_another_and_its_memory_is_free(tmp_path):
    names = ("one", "two")
    folders = tuple(write_torch_only(tmp_path / name) for name in names)
    weights = Weights(tmp_path / "data", model_paths=folders)
    sizes = [weights.prepare(name).weights_bytes(fast=False) for name in names]
    pool = Pool(weights, PoolLimits(threads=1, memory_bytes=int(1.5 * sizes[0])))
    with collector_off():
        with pool.using("one") as model:
            modules = weakref.ref(cast(TorchRuntime, model.batcher._runtime)._model)
        del model
        embed(pool, "two", ["a"])
        assert modules() is None
    pool.close()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_checkpoints_are_computed_in_float32(
    tmp_path, torch_only, reference, torch_reference, precision
):
    torch = torch_reference.torch
    half = reference(str(torch_only))[0].auto_model.to(getattr(torch, precision))
    half.save_pretrained(torch_only)
    # A model may ask for its own precision, too.
    asked = {"max_seq_length": 32, "model_args": {"torch_dtype": precision}}
    (torch_only / "sentence_bert_config.json").write_text(json.dumps(asked))
    texts = ["a", "b c d", "e f g h i j k l m n"]
    expected = reference(str(torch_only), model_kwargs={"dtype": torch.float32}).encode(
        texts
    )
    pool = load(tmp_path, torch_only)
    assert np.abs(embed(pool, "torch_only", texts) - expected).max() < 1e-6
    pool.close()


def test_vectors_are_whole_where_a_model_asks_sentence_transformers_to_cut_them(
    tmp_path, torch_only, reference
):
    expected = reference(str(torch_only)).encode(["a b"])
    cut = json.dumps({"truncate_dim": 5})
    (torch_only / "config_sentence_transformers.json").write_text(cut)
    assert reference(str(torch_only)).encode(["a b"]).shape == (1, 5)
    pool = load(tmp_path, torch_only)
    assert np.abs(embed(pool, "torch_only", ["a b"]) - expected).max() < 1e-6
    pool.close()


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (3, r"lacks parameters \(encoder\.layer\.2\.attention"),
        (1, r"holds parameters \(encoder\.layer\.1\.attention"),
    ],
)
@pytest.mark.torch
def test_torch_serves_no_checkpoint_of_other_layers_than_its_config_says(
    tmp_path, torch_only, layers, reason
):
    configure(torch_only, num_hidden_layers=layers)
    with pytest.raises(ProviderMisconfigured, match=reason):
        load(tmp_path, torch_only).model("torch_only")


@pytest.mark.torch
def test_torch_serves_no_checkpoint_of_other_names_or_shapes(tmp_path, torch_only):
    path = torch_only / "model.safetensors"
    tensors = load_file(path)
    strange = {"encoder.layer.0.mlp.gated_layers.weight": np.ones(3, np.float32)}
    save_file(tensors | strange, path)
    with pytest.raises(ProviderMisconfigured, match="gated_layers"):
        load(tmp_path, torch_only).model("torch_only")


@pytest.mark.torch
def test_torch_loads_no_model_of_remote_code_whoever_prepared_it(tmp_path, torch_only):
    configure(torch_only, auto_map={"AutoModel": "modeling.Own"})
    with pytest.raises(ProviderMisconfigured, match="remote code"):
        torch_runtime.TorchRuntime(torch_only, name="torch_only", threads=1)


def test_a_pooler_that_is_missing_and_a_task_head_that_is_there_do_not_matter(
    tmp_path, torch_only, reference
):
    expected = reference(str(torch_only)).encode(["a b"])
    path = torch_only / "model.safetensors"
    tensors = load_file(path)
    assert not any("pooler" in name for name in tensors)
    save_file(tensors | {"cls.predictions.bias": np.ones(3, np.float32)}, path)
    pool = load(tmp_path, torch_only)
    assert np.abs(embed(pool, "torch_only", ["a b"]) - expected).max() < 1e-6
    pool.close()


def test_torch_leaves_a_prompt_out_of_the_pooling_where_the_model_says_so(
    tmp_path, torch_only, reference
):
    tiny.write_modules(
        torch_only, {"pooling_mode_mean_tokens": True, "include_prompt": False}
    )
    prompts = {"prompts": {"query": "q q q q ", "document": "d d "}}
    (torch_only / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    texts = ["a", "b c d e", "f"]
    model = reference(str(torch_only))
    whole = model.encode([f"q q q q {text}" for text in texts], prompt="")
    provider = HuggingFaceProvider.from_settings(
        {"data_dir": tmp_path / "data", "model_paths": (torch_only,)}
    )
    provider.download("torch_only")
    spec = provider.resolve("torch_only")
    assert spec is not None
    by_input_type: dict[InputType, Any] = {
        "query": model.encode_query(texts),
        "document": model.encode_document(texts),
    }
    for input_type, expected in by_input_type.items():
        found = provider.embed(
            spec,
            texts,
            dimensions=None,
            input_type=input_type,
            timeout_seconds=60,
        ).vectors
        assert np.abs(found - expected).max() < 1e-5
        assert np.abs(found - whole).max() > 1e-2
    provider.close()


def test_texts_of_several_prompts_in_one_batch_keep_their_order(
    tmp_path, torch_only, reference
):
    tiny.write_modules(
        torch_only, {"pooling_mode_mean_tokens": True, "include_prompt": False}
    )
    model = reference(str(torch_only))
    pool = load(tmp_path, torch_only)
    loaded = pool.model("torch_only")
    texts = [("q q ", "a b"), ("d ", "c"), ("q q ", "e")]
    rows = [
        Row(loaded.tokenizer.encode([prompt + text])[0], prompt + text, prompt, 0)
        for prompt, text in texts
    ]
    found = tiny.run(loaded, rows, seconds=60)
    expected = [model.encode([text], prompt=prompt)[0] for prompt, text in texts]
    assert np.abs(found - np.stack(expected)).max() < 1e-5
    pool.close()


def test_what_needs_torch_is_refused_at_preparation_where_there_is_none(
    tmp_path, torch_only, monkeypatch
):
    monkeypatch.setattr(machine, "has_torch", lambda: False)
    with pytest.raises(ProviderMisconfigured, match=r"embeddings-server\[torch\]"):
        prepare(tmp_path, torch_only)


@pytest.mark.torch
def test_other_safetensors_are_not_prepared_for_torch(tmp_path, torch_only):
    for name in ("model_old.safetensors", "checkpoint-5/model.safetensors"):
        (torch_only / name).parent.mkdir(exist_ok=True)
        shutil.copy(torch_only / "model.safetensors", torch_only / name)
    _, prepared = prepare(tmp_path, torch_only)
    stored = {name for name in prepared.manifest.files if "safetensors" in name}
    assert stored == {"model.safetensors"}


@pytest.mark.parametrize(
    ("version", "option"),
    [("4.41.2", "torch_dtype"), ("4.56.0", "dtype"), ("5.23.0", "dtype")],
)
def test_the_precision_is_asked_for_by_the_name_that_transformers_knows(
    monkeypatch, version, option
):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    assert torch_runtime.precision_option() == option


@pytest.mark.parametrize(
    ("content", "cores"),
    [("50000 100000", 1), ("max 100000", None), ("nonsense", None)],
)
def test_a_containers_quota_bounds_the_threads(tmp_path, content, cores):
    (tmp_path / "cpu.max").write_text(content)
    assert usable_cores(tmp_path) == (cores or usable_cores(tmp_path / "absent"))
