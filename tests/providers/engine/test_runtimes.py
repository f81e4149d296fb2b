"""Models that no graph is built for: ONNX files that a repo ships, and sentence-transformers."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from providers.engine.machine import usable_cores
from providers.engine.pool import Pool, PoolLimits
from providers.engine.runtime import Row
from providers.engine.weights import Weights
from providers.exceptions import ProviderMisconfigured
from tests.providers.engine import tiny


def prepare(tmp_path, folder):
    weights = Weights(tmp_path / "data", model_paths=(folder,))
    return weights, weights.prepare(folder.name)


def embed(pool, name, texts):
    model = pool.model(name)
    rows = [
        Row(ids, text)
        for ids, text in zip(model.tokenizer.encode(texts), texts, strict=True)
    ]
    return model.embed(rows, timeout_seconds=60)


def ship_onnx(folder, extra_input="token_type_ids"):
    """Write an exported encoder whose token vectors are a table's rows."""
    table = (
        np.random.default_rng(0)
        .standard_normal((len(tiny.WORDS), tiny.HIDDEN))
        .astype(np.float32)
    )
    names = ["input_ids", "attention_mask", extra_input]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"])
        for name in names
    ]
    output = helper.make_tensor_value_info(
        "last_hidden_state", TensorProto.FLOAT, ["b", "s", tiny.HIDDEN]
    )
    node = helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    graph = helper.make_graph(
        [node], "g", inputs, [output], [numpy_helper.from_array(table, "table")]
    )
    (folder / "onnx").mkdir()
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    onnx.save(model, folder / "onnx" / "model.onnx")
    (folder / "model.safetensors").unlink()
    return table


def test_an_onnx_file_that_a_repo_ships_is_used_as_it_is(tmp_path):
    folder = tiny.write_model(tmp_path / "shipped", model_type="mpnet")
    table = ship_onnx(folder)
    weights, prepared = prepare(tmp_path, folder)
    assert prepared.runtime == "onnx"
    pool = Pool(weights, PoolLimits(threads=1))
    expected = np.stack([table[[2, 4, 3]].mean(0), table[[2, 4, 5, 6, 3]].mean(0)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(embed(pool, "shipped", ["a", "a b c"]) - expected).max() < 1e-6
    pool.close()


def test_an_onnx_file_with_inputs_no_text_has_is_refused(tmp_path):
    folder = tiny.write_model(tmp_path / "shipped", model_type="mpnet")
    ship_onnx(folder, extra_input="pixel_values")
    with pytest.raises(ProviderMisconfigured, match="pixel_values"):
        prepare(tmp_path, folder)


def test_sentence_transformers_runs_what_no_graph_is_built_for(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    folder = tiny.write_model(tmp_path / "swishing", hidden_act="swish")
    tiny.describe_tokenizer(folder)
    weights, prepared = prepare(tmp_path, folder)
    assert prepared.runtime == "torch"
    pool = Pool(weights, PoolLimits(threads=1))
    texts = ["a", "b c d", "e f"]
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(texts)
    assert np.abs(embed(pool, "swishing", texts) - expected).max() < 1e-5
    assert pool.tokenizer("swishing").count(["a b"]) == [4]
    pool.close()


@pytest.mark.parametrize(
    ("content", "cores"),
    [("50000 100000", 1), ("max 100000", None), ("nonsense", None)],
)
def test_a_containers_quota_bounds_the_threads(tmp_path, content, cores):
    (tmp_path / "cpu.max").write_text(content)
    assert usable_cores(tmp_path) == (cores or usable_cores(tmp_path / "absent"))
