"""Models prove their vectors before they are served: when they are prepared, and again whenever they are loaded."""

import base64
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from providers.engine import files
from providers.engine.onnx_runtime import OnnxRuntime
from providers.engine.reference import sentence_transformers
from providers.engine.verification import open_proved
from providers.engine.weights import Weights
from providers.exceptions import (
    ModelReplaced,
    ProviderMisconfigured,
    VectorsDiffer,
)
from providers.plugins.huggingface import HuggingFaceProvider
from providers.plugins.onnx import OnnxProvider
from tests.providers.engine import tiny

PROMPTS = {"prompts": {"query": "q u e r y ", "document": "p "}}


@pytest.fixture
def folder(tmp_path):
    return tiny.write_model(tmp_path / "own" / "small")


@pytest.fixture
def both(tmp_path, folder):
    """The exact provider and the fast one over one folder, where sentence-transformers is absent."""
    options = {"data_dir": tmp_path / "data", "model_paths": (folder,), "threads": 1}
    providers = (
        HuggingFaceProvider.from_settings(options),
        OnnxProvider.from_settings(options),
    )
    yield providers
    providers[0].close()


def prepare(tmp_path, folder, reference=None):
    weights = Weights(tmp_path / "data", model_paths=(folder,), reference=reference)
    return weights.prepare(folder.name)


def embed(provider, texts=("a b", "c"), model=None):
    return provider.embed(
        model or provider.resolve("small"),
        list(texts),
        dimensions=None,
        input_type="document",
        timeout_seconds=30,
    ).vectors


def alter(path, precision):
    """Turn the first number of a class's first vector in a manifest round."""
    manifest = json.loads((path / files.MANIFEST_NAME).read_text())
    rows = manifest["proof"]["vectors"][precision]
    vector = np.frombuffer(base64.b64decode(rows[0]), "<f4").copy()
    vector[np.abs(vector).argmax()] *= -1
    rows[0] = base64.b64encode(vector.tobytes()).decode()
    (path / files.MANIFEST_NAME).write_text(json.dumps(manifest))


def ship(folder, write):
    """Put an exported ONNX file of `write(nodes, values)` into a folder, in place of its safetensors."""
    table = np.random.default_rng(0).standard_normal((len(tiny.WORDS), tiny.HIDDEN))
    nodes, parameters = write(
        [helper.make_node("Gather", ["table", "input_ids"], ["tokens"])],
        [numpy_helper.from_array(table.astype(np.float32), "table")],
    )
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info(
        "last_hidden_state", TensorProto.FLOAT, ["b", "s", None]
    )
    graph = helper.make_graph(nodes, "g", inputs, [output], parameters)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    onnx.save(model, folder / "model.onnx")
    (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mpnet"}))


def mixed_with_its_batch(nodes, parameters):
    axes = numpy_helper.from_array(np.array([0], np.int64), "axes")
    nodes += [
        helper.make_node("ReduceMax", ["tokens", "axes"], ["others"]),
        helper.make_node("Add", ["tokens", "others"], ["last_hidden_state"]),
    ]
    return nodes, [*parameters, axes]


def all_alike(nodes, parameters):
    zero = numpy_helper.from_array(np.array(0, np.float32), "zero")
    one = numpy_helper.from_array(np.ones(tiny.HIDDEN, np.float32), "one")
    nodes += [
        helper.make_node("Mul", ["tokens", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "one"], ["last_hidden_state"]),
    ]
    return nodes, [*parameters, zero, one]


def all_zero(nodes, parameters):
    zero = numpy_helper.from_array(np.array(0, np.float32), "zero")
    nodes += [helper.make_node("Mul", ["tokens", "zero"], ["last_hidden_state"])]
    return nodes, [*parameters, zero]


def of_another_width(nodes, parameters):
    nodes += [
        helper.make_node("Concat", ["tokens", "tokens"], ["last_hidden_state"], axis=2)
    ]
    return nodes, parameters


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (mixed_with_its_batch, r"depends on what else is in its batch \(cosine 0\.\d+"),
        (all_alike, r"gives \d+ different texts only 1 different vectors"),
        (all_zero, "zero or not finite"),
        (of_another_width, "32"),
    ],
)
def test_a_model_that_fails_its_own_check_is_refused_when_it_is_prepared(
    tmp_path, folder, write, reason
):
    ship(folder, write)
    with pytest.raises(ProviderMisconfigured, match=reason):
        prepare(tmp_path, folder)
    assert not (tmp_path / "data" / "prepared" / "small").exists()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda vectors: np.tile(vectors, 2), "have 32 numbers, not 16"),
        (lambda vectors: vectors * 2, r"up to 2\.000 long, not 1"),
        (lambda vectors: vectors * np.nan, "not finite"),
    ],
)
def test_a_runtime_that_answers_something_else_than_the_model_says_is_refused(
    tmp_path, folder, monkeypatch, spoil, reason
):
    class Spoilt(OnnxRuntime):
        def run(self, rows, **how):
            return spoil(super().run(rows, **how))

    monkeypatch.setattr("providers.engine.onnx_runtime.OnnxRuntime", Spoilt)
    with pytest.raises(ProviderMisconfigured, match=reason):
        prepare(tmp_path, folder)


def test_a_text_is_compared_in_no_larger_batch_than_it_is_served_in(
    tmp_path, folder, monkeypatch
):
    ship(folder, mixed_with_its_batch)
    monkeypatch.setattr("providers.engine.run_sizes.BATCH_TOKENS", 1)
    assert prepare(tmp_path, folder).manifest.proof.verified == "self"


def test_without_a_reference_a_model_is_verified_by_itself(both):
    exact, fast = both
    exact.download("small")
    for provider, method in ((exact, "fp32"), (fast, "int8-static")):
        spec = provider.resolve("small")
        serving = provider.serving(spec)
        assert (spec.method, serving.runtime) == (method, "graph")
        assert (serving.verified, serving.problem) == ("self", None)


def test_each_way_of_computing_has_a_revision_of_its_own(both):
    both[0].download("small")
    one, other = (provider.resolve("small") for provider in both)
    assert one.revision != other.revision
    assert one.vector_space == other.vector_space


def test_a_model_that_is_not_prepared_says_how_it_becomes_so(both):
    exact, _ = both
    serving = exact.serving(exact.resolve("small"))
    assert (serving.runtime, serving.verified) == (None, None)
    assert "download_model small" in serving.problem


def test_vectors_other_than_the_reference_s_are_refused_with_the_figure(
    tmp_path, folder
):
    def another(path, checks):
        return np.random.default_rng(0).standard_normal((len(checks), tiny.HIDDEN))

    with pytest.raises(
        ProviderMisconfigured,
        match=r"not those of sentence-transformers \(cosine -?\d\.\d+",
    ):
        prepare(tmp_path, folder, another)


def test_a_reference_of_another_width_is_refused(tmp_path, folder):
    def wider(path, checks):
        return np.ones((len(checks), tiny.HIDDEN + 1))

    with pytest.raises(ProviderMisconfigured, match="17"):
        prepare(tmp_path, folder, wider)


def test_the_texts_cover_the_limit_and_every_prompt(tmp_path, folder):
    (folder / "config_sentence_transformers.json").write_text(json.dumps(PROMPTS))
    seen = []

    def look(path, checks):
        seen.extend(checks)

    prepared = prepare(tmp_path, folder, look)
    counts = prepared.tokenizer().count([prompt + text for prompt, text in seen])
    assert len(seen) >= 30
    assert (min(counts), max(counts)) == (3, prepared.config.max_tokens)
    for prompt in ("", *PROMPTS["prompts"].values()):
        assert sum(asked == prompt for asked, _ in seen) >= 4


@pytest.mark.torch
def test_sentence_transformers_confirms_a_model_with_prompts(tmp_path, folder):
    tiny.describe_tokenizer(folder)
    (folder / "config_sentence_transformers.json").write_text(json.dumps(PROMPTS))
    prepared = prepare(tmp_path, folder, sentence_transformers)
    assert prepared.manifest.proof.verified == "reference"


@pytest.mark.torch
def test_where_sentence_transformers_cannot_load_a_model_it_is_verified_by_itself(
    tmp_path, folder
):
    (folder / "modules.json").write_text(
        (folder / "modules.json").read_text().replace("Normalize", "Nonsense")
    )
    assert sentence_transformers(folder, [("", "a")]) is None


def test_an_altered_vector_in_the_manifest_stops_the_model_until_it_is_prepared_again(
    both,
):
    exact, fast = both
    path = exact.download("small").path
    before = embed(exact)
    exact.close()  # as a server that is started again
    alter(path, "exact")
    for _ in range(2):
        with pytest.raises(
            VectorsDiffer, match=r"cosine -?0\.\d+.*download_model small"
        ):
            embed(exact)
    assert "download_model small" in exact.serving(exact.resolve("small")).problem
    assert len(embed(fast)) == 2
    exact.download("small")
    assert (embed(exact) == before).all()
    assert exact.serving(exact.resolve("small")).problem is None


def test_a_model_that_was_refused_is_not_loaded_again_at_each_request(
    both, monkeypatch
):
    exact, _ = both
    alter(exact.download("small").path, "exact")
    opened = []

    def count(*args, **kwargs):
        opened.append(args)
        return open_proved(*args, **kwargs)

    monkeypatch.setattr("providers.engine.pool.open_proved", count)
    for _ in range(5):
        with pytest.raises(VectorsDiffer):
            embed(exact)
    assert len(opened) == 1


def test_the_fast_class_alone_stops_where_only_its_vectors_differ(both):
    exact, fast = both
    alter(exact.download("small").path, "fast")
    with pytest.raises(VectorsDiffer, match="fast class"):
        embed(fast)
    assert len(embed(exact)) == 2


NAN = base64.b64encode(np.full(tiny.HIDDEN, np.nan, "<f4").tobytes()).decode()


@pytest.mark.parametrize("rows", [[], ["!"], ["AAAA"], [""], [NAN] * 4])
def test_damaged_vectors_in_the_manifest_stop_the_model(both, rows):
    exact, _ = both
    path = exact.download("small").path / files.MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest["proof"]["vectors"]["exact"] = rows
    path.write_text(json.dumps(manifest))
    with pytest.raises(VectorsDiffer):
        embed(exact)


@pytest.mark.parametrize("limit", ["FAST_COSINE", "FAST_MEAN_COSINE"])
def test_a_fast_graph_that_strays_from_the_exact_one_is_not_kept(
    both, monkeypatch, tmp_path, limit
):
    monkeypatch.setattr(f"providers.engine.verification.{limit}", 1.1)
    exact, fast = both
    exact.download("small")
    assert fast.resolve("small").method == "fp32"
    assert not list((tmp_path / "data" / "prepared").rglob("*int8*"))
    assert (embed(exact) == embed(fast)).all()


def test_what_was_never_checked_is_prepared_again(both):
    exact, _ = both
    path = exact.download("small").path / files.MANIFEST_NAME
    manifest = json.loads(path.read_text())
    del manifest["proof"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ProviderMisconfigured, match="download_model small"):
        embed(exact)
    assert exact.outdated() == ["small"]
    exact.download("small")
    assert exact.outdated() == []
    assert len(embed(exact)) == 2


def test_a_model_that_another_process_prepared_again_is_loaded_again(
    both, folder, tmp_path
):
    exact, _ = both
    exact.download("small")
    before, old = embed(exact), exact.resolve("small")
    tiny.write_model(folder, seed=1)
    prepare(tmp_path, folder)
    assert not (embed(exact) == before).all()
    assert exact.resolve("small").revision != old.revision
    with pytest.raises(ModelReplaced):
        embed(exact, model=old)


def test_the_loaded_model_is_the_one_that_was_proved(tmp_path, folder):
    prepared = prepare(tmp_path, folder)
    opened = open_proved(prepared, "exact", threads=1)
    found = opened.vectors([("", text) for text in prepared.manifest.proof.texts])
    expected = [
        np.frombuffer(base64.b64decode(row), "<f4")
        for row in prepared.manifest.proof.vectors["exact"]
    ]
    assert np.abs(found - np.stack(expected)).max() < 1e-6
