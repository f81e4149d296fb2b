"""ONNX files that others exported: which of their outputs is the vector, what they are fed, where their data lies."""

import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from providers.base import InputType
from providers.engine import machine
from providers.engine.building import build_graph
from providers.engine.graph import GRAPH_FILE
from providers.engine.model_config import read_model_config
from providers.engine.onnx_runtime import OnnxRuntime
from providers.engine.pool import Pool, PoolLimits
from providers.engine.runtime import Row
from providers.engine.tokenizer import ModelTokenizer
from providers.engine.weights import Weights
from providers.exceptions import ProviderMisconfigured
from providers.plugins.huggingface import HuggingFaceProvider
from tests.providers.engine import tiny

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
TEXTS = ["a", "b c d e", "f g"]
IDS = [
    ("input_ids", INT64, ["b", "s"]),
    ("attention_mask", INT64, ["b", "s"]),
]
TOKENS = ("last_hidden_state", FLOAT, ["b", "s", tiny.HIDDEN])


@pytest.fixture
def folder(tmp_path):
    return tiny.write_model(tmp_path / "exported")


def embed(tmp_path, folder, texts=TEXTS, prompt=""):
    """Prepare a folder, and embed by the runtime that serves it."""
    weights = Weights(tmp_path / f"data-{folder.name}", model_paths=(folder,))
    prepared = weights.prepare(folder.name)
    pool = Pool(weights, PoolLimits(threads=1))
    model = pool.model(folder.name)
    try:
        made = rows(model.tokenizer, texts, prompt)
        return prepared.runtime, tiny.run(model, made, seconds=60)
    finally:
        pool.close()


def same(tmp_path, folder, expected):
    runtime, found = embed(tmp_path, folder)
    assert runtime == "onnx"
    assert np.abs(found - expected).max() < 1e-6


def by_graph(folder, prompt=""):
    """Embed by the graph built from the checkpoint."""
    config = read_model_config(folder)
    build_graph(folder, config)
    tokenizer = ModelTokenizer.from_file(folder / "tokenizer.json")
    runtime = OnnxRuntime(folder / GRAPH_FILE, config, threads=1)
    return runtime.run(rows(tokenizer, TEXTS, prompt))


def rows(tokenizer, texts, prompt):
    skipped = tokenizer.prompt_tokens(prompt) if prompt else 0
    ids = tokenizer.encode([prompt + text for text in texts])
    return [
        Row(row, prompt + text, prompt, skipped)
        for row, text in zip(ids, texts, strict=True)
    ]


@pytest.fixture
def expected(folder):
    """The vectors of the graph built from the same parameters."""
    return by_graph(folder)


def rename_output(model, name):
    for node in model.graph.node:
        node.output[:] = [name if n == "last_hidden_state" else n for n in node.output]
    model.graph.output[0].name = name


def add_output(model, name, nodes, shape, kind=FLOAT, tables=()):
    """Put another output before those there are."""
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(tables)
    outputs = [helper.make_tensor_value_info(name, kind, shape), *model.graph.output]
    del model.graph.output[:]
    model.graph.output.extend(outputs)


def pooled(model, name, axis=1):
    node = helper.make_node(
        "ReduceMax", ["last_hidden_state", "axis.first"], [name], keepdims=0
    )
    axes = numpy_helper.from_array(np.array([axis], np.int64), "axis.first")
    add_output(model, name, [node], ["b", tiny.HIDDEN], tables=[axes])


@pytest.mark.parametrize("name", ["last_hidden_state", "token_embeddings", "463"])
def test_token_vectors_are_found_whatever_stands_before_them(
    tmp_path, folder, expected, name
):
    model = tiny.export(folder)
    pooled(model, "pooler_output")
    weight = np.ones((tiny.HIDDEN, 50), np.float32)
    logits = helper.make_node("MatMul", ["last_hidden_state", "head"], ["logits"])
    head = numpy_helper.from_array(weight, "head")
    add_output(model, "logits", [logits], ["b", "s", 50], tables=[head])
    ids = helper.make_node("Identity", ["input_ids"], ["output"])
    add_output(model, "output", [ids], ["b", "s"], INT64)
    for node in model.graph.node:
        node.input[:] = [name if n == "last_hidden_state" else n for n in node.input]
        node.output[:] = [name if n == "last_hidden_state" else n for n in node.output]
    model.graph.output[-1].name = name
    tiny.write_graph(folder, model)
    same(tmp_path, folder, expected)


def test_the_texts_own_vector_comes_before_token_vectors(tmp_path, folder):
    model = tiny.export(folder)
    node = helper.make_node(
        "Gather", ["last_hidden_state", "first"], ["sentence_embedding"], axis=1
    )
    first = numpy_helper.from_array(np.array(0, np.int64), "first")
    shape = ["b", tiny.HIDDEN]
    add_output(model, "sentence_embedding", [node], shape, tables=[first])
    order = list(model.graph.output)[::-1]
    del model.graph.output[:]
    model.graph.output.extend(order)
    tiny.write_graph(folder, model)
    tiny.write_modules(folder, {"pooling_mode_max_tokens": True})
    _, found = embed(tmp_path, folder, ["a b c"])
    other = tiny.write_model(folder.parent / "first")
    tiny.export(other)
    tiny.write_modules(other, {"pooling_mode_cls_token": True})
    assert np.abs(found - embed(tmp_path, other, ["a b c"])[1]).max() < 1e-6


def refused(tmp_path, folder, reason):
    with pytest.raises(ProviderMisconfigured, match=reason):
        embed(tmp_path, folder)


def gathered(
    outputs, inputs=IDS, nodes=(), width=tiny.HIDDEN, name="last_hidden_state"
):
    """An encoder whose token vectors are a table's rows."""
    table = np.arange(60 * width, dtype=np.float32).reshape(60, width) / 100
    node = helper.make_node("Gather", ["table", "input_ids"], [name])
    return tiny.graph_of([node, *nodes], inputs, outputs, {"table": table})


@pytest.mark.parametrize(
    ("outputs", "nodes", "reason"),
    [
        (
            [("a", FLOAT, ["b", "s", 16]), ("c", FLOAT, ["b", "s", 16])],
            [("Identity", "last_hidden_state", n) for n in ("a", "c")],
            r"outputs \(a, c\)",
        ),
        (
            [("ids", INT64, ["b", "s"])],
            [("Identity", "input_ids", "ids")],
            r"outputs \(ids\)",
        ),
        (
            [("last_hidden_state", FLOAT, ["b", "s", 16])],
            [],
            None,
        ),
    ],
)
def test_an_output_that_cannot_be_identified_is_refused_with_the_names_there_are(
    tmp_path, folder, outputs, nodes, reason
):
    made = [helper.make_node(kind, [x], [y]) for kind, x, y in nodes]
    tiny.export(folder)
    tiny.write_graph(folder, gathered(outputs, nodes=made))
    if reason is None:
        assert embed(tmp_path, folder)[0] == "onnx"
    else:
        refused(tmp_path, folder, reason)


def test_a_width_that_is_not_the_models_is_refused(tmp_path, folder):
    tiny.export(folder)
    output = ("last_hidden_state", FLOAT, ["b", "s", 12])
    tiny.write_graph(folder, gathered([output], width=12))
    refused(tmp_path, folder, r"last_hidden_state is tensor\(float\)")


def test_a_width_that_only_a_run_shows_is_refused_at_the_first(tmp_path, folder):
    tiny.export(folder)
    # Cut at a place that is computed, so that no width can be inferred.
    nodes = [
        helper.make_node("ReduceMax", ["attention_mask"], ["one"], keepdims=0),
        helper.make_node("Mul", ["one", "twelve"], ["end"]),
        helper.make_node("Reshape", ["end", "flat"], ["ends"]),
        helper.make_node(
            "Slice", ["rows", "zero", "ends", "axis"], ["last_hidden_state"]
        ),
    ]
    output = ("last_hidden_state", FLOAT, ["b", "s", "width"])
    model = gathered([output], nodes=nodes, name="rows")
    for name, value in (("twelve", 12), ("flat", [1]), ("zero", [0]), ("axis", [2])):
        tensor = numpy_helper.from_array(np.array(value, np.int64), name)
        model.graph.initializer.append(tensor)
    tiny.write_graph(folder, model)
    refused(tmp_path, folder, r"has the shape \(1, 3, 12\), not \(1, 3, 16\)")


def test_token_ids_under_the_name_of_vectors_are_refused(tmp_path, folder):
    tiny.export(folder)
    node = helper.make_node("Identity", ["input_ids"], ["sentence_embedding"])
    output = ("sentence_embedding", INT64, ["b", "s"])
    tiny.write_graph(folder, tiny.graph_of([node], IDS, [output], {}))
    refused(tmp_path, folder, "sentence_embedding is tensor")


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([("input_ids", INT64, [1, 128]), IDS[1]], "batches of one shape"),
        (IDS[:1], "no input attention_mask"),
        ([*IDS, ("pixel_values", FLOAT, ["b", 3])], "pixel_values"),
        ([*IDS, ("past_key_values.0.key", FLOAT, ["b", "h", 0, 4])], "past_key_values"),
    ],
)
def test_inputs_that_cannot_be_fed_are_refused(tmp_path, folder, inputs, reason):
    tiny.export(folder)
    tiny.write_graph(folder, gathered([TOKENS], inputs=inputs))
    refused(tmp_path, folder, reason)


def numbered(first=0):
    """An encoder whose token vectors are words' and positions' rows, and that checks that its cache is empty."""
    random = np.random.default_rng(4)
    words = random.standard_normal((60, tiny.HIDDEN)).astype(np.float32)
    places = random.standard_normal((60, tiny.HIDDEN)).astype(np.float32)
    cache = [
        (f"past_key_values.0.{part}", FLOAT, ["b", 2, "past", 4])
        for part in ("key", "value")
    ]
    present = ("present.0.key", FLOAT, ["b", 2, "all", 4])
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["w"]),
        helper.make_node("Gather", ["places", "position_ids"], ["p"]),
        helper.make_node("Identity", ["past_key_values.0.key"], ["present.0.key"]),
        helper.make_node(
            "ReduceSum", ["past_key_values.0.value"], ["nothing"], keepdims=0
        ),
        helper.make_node("Add", ["w", "p"], ["sum"]),
        helper.make_node("Add", ["sum", "nothing"], ["last_hidden_state"]),
    ]
    inputs = [*IDS, ("position_ids", INT64, ["b", "s"]), *cache]
    model = tiny.graph_of(
        nodes, inputs, [present, TOKENS], {"words": words, "places": places}
    )
    ids = np.array([2, 4, 5, 3])
    tokens = words[ids] + places[np.arange(4) + first]
    vector = tokens.mean(0)
    return model, vector / np.linalg.norm(vector)


@pytest.mark.parametrize(
    ("family", "first"), [("qwen3", 0), ("mpnet", 2), ("roberta", 2)]
)
def test_positions_and_an_empty_cache_are_fed(tmp_path, folder, family, first):
    tiny.export(folder)
    config = json.loads((folder / "config.json").read_text())
    described = config | {"model_type": family, "pad_token_id": 1}
    (folder / "config.json").write_text(json.dumps(described))
    model, expected = numbered(first)
    tiny.write_graph(folder, model)
    # A longer text beside it: padding must change nothing.
    _, found = embed(tmp_path, folder, ["a b", "a b c d e f"])
    assert np.abs(found[0] - expected).max() < 1e-6


def test_half_precision_outputs_are_widened(tmp_path, folder, expected):
    model = tiny.export(folder)
    rename_output(model, "wide")
    cast = helper.make_node(
        "Cast", ["wide"], ["last_hidden_state"], to=TensorProto.FLOAT16
    )
    model.graph.node.append(cast)
    del model.graph.output[:]
    model.graph.output.append(
        helper.make_tensor_value_info(
            "last_hidden_state", TensorProto.FLOAT16, ["b", "s", tiny.HIDDEN]
        )
    )
    tiny.write_graph(folder, model)
    _, found = embed(tmp_path, folder)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize("activation", ["Identity", "Tanh", "ReLU", "GELU", "Sigmoid"])
def test_dense_layers_after_an_exported_encoder_equal_those_of_a_graph(
    tmp_path, folder, activation
):
    random = np.random.default_rng(2)
    package = "linear" if activation == "Identity" else "activation"
    dense = {
        "in_features": tiny.HIDDEN,
        "out_features": 7,
        "bias": True,
        "activation_function": f"torch.nn.modules.{package}.{activation}",
    }
    tiny.write_modules(folder, dense=dense)
    parameters = {
        "linear.weight": random.standard_normal((7, tiny.HIDDEN)).astype(np.float32),
        "linear.bias": random.standard_normal(7).astype(np.float32),
    }
    save_file(parameters, folder / "2_Dense" / "model.safetensors")
    expected = by_graph(folder)
    assert expected.shape == (3, 7)
    tiny.export(folder)
    same(tmp_path, folder, expected)


def store(folder, model, where):
    """Save a graph with its parameters in a file of this name."""
    (folder / "onnx" / "model.onnx").unlink()
    tiny.write_graph(
        folder,
        model,
        save_as_external_data=True,
        location=where,
        size_threshold=128,
        convert_attribute=True,
    )


@pytest.mark.parametrize(
    "where",
    [
        "model.onnx_data",
        "model.onnx.data",
        "model.onnx_data_1",
        "model_weight.bin",
        "Constant_7_attr__value",
    ],
)
def test_data_files_are_those_that_the_graph_names(tmp_path, folder, expected, where):
    store(folder, tiny.export(folder), where)
    (folder / "onnx" / "model.onnx_data_stray").write_bytes(b"not named")
    same(tmp_path, folder, expected)
    weights = Weights(tmp_path / "data-exported", model_paths=(folder,))
    prepared = weights.find("exported")
    assert prepared is not None
    assert f"onnx/{where}" in prepared.manifest.files
    assert "onnx/model.onnx_data_stray" not in prepared.manifest.files
    stored = (folder / "onnx" / where).stat().st_size
    assert prepared.weights_bytes(fast=False) > stored


def constants(model):
    """Turn parameters into Constant nodes, some of them inside the branches of an If."""
    nodes = []
    for tensor in list(model.graph.initializer):
        nodes.append(helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]
    words = next(node for node in nodes if node.output[0] == "words")
    nodes.remove(words)
    branches = []
    for side in ("then", "else"):
        inner = helper.make_node("Constant", [], [side], value=words.attribute[0].t)
        out = helper.make_tensor_value_info(side, FLOAT, None)
        branches.append(helper.make_graph([inner], side, [], [out]))
    yes = numpy_helper.from_array(np.array(True), "yes")
    nodes.append(helper.make_node("Constant", [], ["yes"], value=yes))
    nodes.append(
        helper.make_node(
            "If", ["yes"], ["words"], then_branch=branches[0], else_branch=branches[1]
        )
    )
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *kept])
    return model


def test_constants_that_refer_to_files_are_found_in_nested_graphs_too(
    tmp_path, folder, expected
):
    model = constants(tiny.export(folder))
    (folder / "onnx" / "model.onnx").unlink()
    number = 0
    for graph in [
        model.graph,
        *(
            a.g
            for n in model.graph.node
            for a in n.attribute
            if a.name.endswith("branch")
        ),
    ]:
        for node in graph.node:
            if node.op_type == "Constant" and len(node.attribute[0].t.raw_data) > 64:
                number += 1
                tensor, name = node.attribute[0].t, f"Constant_{number}_attr__value"
                onnx.external_data_helper.set_external_data(tensor, name)
                (folder / "onnx" / name).write_bytes(tensor.raw_data)
                tensor.ClearField("raw_data")
    assert number > 10
    (folder / "onnx" / "model.onnx").write_bytes(model.SerializeToString())
    same(tmp_path, folder, expected)


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "a/../../b", "..\\b", ""]
)
def test_a_graph_cannot_name_data_outside_of_its_folder(tmp_path, folder, location):
    model = tiny.export(folder)
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    (folder / "onnx" / "model.onnx").write_bytes(model.SerializeToString())
    refused(tmp_path, folder, "outside of its folder")


def test_data_that_is_absent_is_named_at_preparation(tmp_path, folder):
    store(folder, tiny.export(folder), "weights")
    (folder / "onnx" / "weights").unlink()
    with pytest.raises(ProviderMisconfigured, match="onnx/weights is absent"):
        Weights(tmp_path / "data", model_paths=(folder,)).prepare("exported")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            ["onnx/model_quantized.onnx"],
            "only onnx/model_quantized.onnx, and a quantised",
        ),
        (["onnx/model_O4.onnx"], "only onnx/model_O4.onnx"),
        (["pytorch_model.bin"], r"pickled weights \(pytorch_model.bin\)"),
        (["other.safetensors"], "other.safetensors is not read"),
        ([], "neither safetensors nor ONNX"),
    ],
)
def test_what_there_is_in_place_of_weights_is_said(
    tmp_path, folder, files, reason, monkeypatch
):
    monkeypatch.setattr(machine, "has_torch", lambda: False)
    (folder / "model.safetensors").unlink()
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    with pytest.raises(ProviderMisconfigured, match=reason):
        Weights(tmp_path / "data", model_paths=(folder,)).prepare("exported")


def test_an_optimised_file_that_computes_in_float32_is_used(tmp_path, folder, expected):
    tiny.export(folder, "onnx/model_O3.onnx")
    same(tmp_path, folder, expected)


def test_a_damaged_onnx_file_is_refused(tmp_path, folder):
    tiny.export(folder)
    (folder / "onnx" / "model.onnx").write_bytes(b"\x08")
    with pytest.raises(ProviderMisconfigured, match="damaged or no ONNX file"):
        Weights(tmp_path / "data", model_paths=(folder,)).prepare("exported")


def test_a_remote_code_model_is_served_by_its_onnx_file_and_only_so(
    tmp_path, folder, expected
):
    config = json.loads((folder / "config.json").read_text())
    remote = {"AutoModel": "org/code--modeling.JinaBertModel"}
    described = config | {"auto_map": remote, "position_embedding_type": "alibi"}
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(ProviderMisconfigured, match="remote code"):
        Weights(tmp_path / "data", model_paths=(folder,)).prepare("exported")
    (folder / "config.json").write_text(json.dumps(config))
    tiny.export(folder, keep_checkpoint=True)
    (folder / "config.json").write_text(json.dumps(described))
    same(tmp_path, folder, expected)


def test_a_module_that_needs_remote_code_is_refused_by_its_name(tmp_path, folder):
    listed = json.loads((folder / "modules.json").read_text())
    listed[0]["type"] = "custom_st.Transformer"
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ProviderMisconfigured, match=r"custom_st\.Transformer"):
        Weights(tmp_path / "data", model_paths=(folder,)).prepare("exported")


MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_that_is_not_included_is_left_out_of_the_pooling(
    tmp_path, folder, torch_reference, mode
):
    pooling = {"pooling_mode": mode, "include_prompt": False}
    tiny.write_modules(folder, pooling)
    found = by_graph(folder, prompt="q q q ")
    model = torch_reference.whole(folder)
    expected = model.encode(TEXTS, prompt="q q q ")
    assert np.abs(found - expected).max() < 1e-5
    if mode != "lasttoken":
        whole = model.encode([f"q q q {text}" for text in TEXTS])
        assert np.abs(found - whole).max() > 1e-2
    exported = tiny.export(folder)
    pooled(exported, "sentence_embedding")  # which knows nothing of prompts
    tiny.write_graph(folder, exported)
    runtime, by_file = embed(tmp_path, folder, prompt="q q q ")
    assert runtime == "onnx"
    assert np.abs(by_file - found).max() < 1e-6


def test_the_provider_leaves_out_as_many_tokens_as_the_prompt_has(
    tmp_path, folder, torch_reference
):
    pooling = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    tiny.write_modules(folder, pooling)
    prompts = json.dumps({"prompts": {"query": "q q q q ", "document": "d d "}})
    (folder / "config_sentence_transformers.json").write_text(prompts)
    model = torch_reference.whole(folder)
    provider = HuggingFaceProvider.from_settings(
        {"data_dir": tmp_path / "data", "model_paths": (folder,), "threads": 1}
    )
    provider.download("exported")
    spec = provider.resolve("exported")
    assert spec is not None
    by_input_type: dict[InputType, Any] = {
        "query": model.encode_query(TEXTS),
        "document": model.encode_document(TEXTS),
    }
    for input_type, expected in by_input_type.items():
        found = provider.embed(
            spec,
            TEXTS,
            dimensions=None,
            input_type=input_type,
            timeout_seconds=60,
        ).vectors
        assert np.abs(found - expected).max() < 1e-5
    provider.close()


@pytest.mark.parametrize("kind", ["sentence_transformers.models.LSTM", "own.Normalize"])
def test_an_onnx_file_does_not_stand_for_modules_after_the_encoder(
    tmp_path, folder, kind
):
    tiny.export(folder)
    listed = json.loads((folder / "modules.json").read_text())
    listed.append({"path": "4_Own", "type": kind})
    (folder / "modules.json").write_text(json.dumps(listed))
    refused(tmp_path, folder, f"cannot be used .*{kind.rsplit('.', 1)[1]}")


def test_a_quantised_checkpoint_is_refused_and_its_onnx_file_used(
    tmp_path, folder, expected
):
    config = json.loads((folder / "config.json").read_text())
    quantised = json.dumps(config | {"quantization_config": {"bits": 4}})
    (folder / "config.json").write_text(quantised)
    refused(tmp_path, folder, "checkpoint is quantised")
    (folder / "config.json").write_text(json.dumps(config))
    tiny.export(folder, keep_checkpoint=True)
    (folder / "config.json").write_text(quantised)
    same(tmp_path, folder, expected)


def test_what_a_killed_preparation_left_does_not_count(tmp_path, folder, expected):
    tree = tmp_path / "data-exported" / "staging" / "exported" / "tree"
    other = tiny.write_model(tmp_path / "other", seed=5)
    tree.mkdir(parents=True)
    (other / "model.safetensors").rename(tree / "model.safetensors")
    tiny.export(folder)
    same(tmp_path, folder, expected)
