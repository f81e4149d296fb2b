"""Products in int8 in any ONNX graph: which are found, how they are written, and when they are kept."""

import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from providers.engine import building
from providers.engine.building import build_fast
from providers.engine.graph.products import ProductGraph
from providers.engine.graph.session import open_session
from providers.engine.graph.settings import Unbuildable
from providers.engine.graph.static import build_static
from providers.engine.graph.weight_only import build_weight_only, quantised_blocks
from providers.engine.model_config import read_model_config
from providers.engine.tokenizer import ModelTokenizer
from providers.engine.verification import open_proved
from providers.engine.weights import Weights
from providers.exceptions import ProviderMisconfigured
from tests.providers.engine import tiny

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
WIDE, INNER = 16, 40
RANDOM = np.random.default_rng(1)
TABLES = {
    "words": RANDOM.standard_normal((60, WIDE)).astype(np.float32),
    "up": (RANDOM.standard_normal((WIDE, INNER)) / 4).astype(np.float32),
    "up.bias": RANDOM.standard_normal(INNER).astype(np.float32),
    "down": (RANDOM.standard_normal((WIDE, INNER)) / 4).astype(np.float32),
    "places": RANDOM.standard_normal((1, 3, WIDE)).astype(np.float32),
}
TEXTS = ["a", "b c d", "e f g h i j k l m n o p q r s t u v w x y z"]


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs, [output], **attributes)


# Two layers of one feed-forward block, whose second parameters are stored the other way; and a product of no token.
NODES = [
    node("Gather", ["words", "input_ids"], "x"),
    node("Transpose", ["down"], "down.turned", perm=[1, 0]),
    node("MatMul", ["x", "up"], "one"),
    node("Add", ["up.bias", "one"], "one.sum"),
    node("Relu", ["one.sum"], "one.active"),
    node("MatMul", ["one.active", "down.turned"], "two"),
    node("MatMul", ["two", "up"], "three"),
    node("Add", ["three", "up.bias"], "three.sum"),
    node("Relu", ["three.sum"], "three.active"),
    node("MatMul", ["three.active", "down.turned"], "four"),
    node("MatMul", ["places", "up"], "five"),
    node("ReduceMean", ["five"], "five.mean", keepdims=0),
    node("Cast", ["attention_mask"], "mask", to=FLOAT),
    node("Unsqueeze", ["mask", "last"], "mask.column"),
    node("Mul", ["four", "mask.column"], "six"),
    node("Add", ["six", "five.mean"], "last_hidden_state"),
]
IDS = [
    ("input_ids", INT64, ["b", "s"]),
    ("attention_mask", INT64, ["b", "s"]),
]


@pytest.fixture
def exact(tmp_path):
    tables = TABLES | {"last": np.array([2], np.int64)}
    tokens = ("last_hidden_state", FLOAT, ["b", "s", WIDE])
    model = tiny.graph_of(NODES, IDS, [tokens], tables)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def rows():
    return sorted((RANDOM.integers(4, 60, size) for size in range(1, 40)), key=len)


def run(path, ids):
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return open_session(path, threads=1).run(None, feed)[0]


def cosines(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def static(exact):
    path = exact.with_name("static.onnx")
    build_static(exact, path, rows(), 0, threads=1)
    return path


def weights(exact):
    path = exact.with_name("weights.onnx")
    build_weight_only(exact, path)
    return path


WRITERS = pytest.mark.parametrize("write", [static, weights])


def operators(path):
    return [each.op_type for each in onnx.load(path).graph.node]


def test_each_product_with_parameters_is_found_with_its_bias(exact):
    found = [
        (each.x, each.weight, each.transposed, each.bias, each.output)
        for each in ProductGraph(exact).products
    ]
    assert found == [
        ("x", "up", False, "up.bias", "one.sum"),
        ("one.active", "down", True, None, "two"),
        ("two", "up", False, "up.bias", "three.sum"),
        ("three.active", "down", True, None, "four"),
        ("places", "up", False, None, "five"),
    ]


def test_parameters_are_read_as_inputs_by_outputs(exact):
    graph = ProductGraph(exact)
    up, down, *_ = (graph.linear(each) for each in graph.products)
    assert (up.weight == TABLES["up"]).all()
    assert up.bias is not None and (up.bias == TABLES["up.bias"]).all()
    assert (down.weight == TABLES["down"].T).all()


@WRITERS
def test_vectors_are_nearly_those_of_the_exact_graph(exact, write):
    ids = RANDOM.integers(4, 60, (3, 20))
    found = cosines(run(exact, ids), run(write(exact), ids))
    assert 0.99 < found.min() < 1


@WRITERS
def test_a_text_has_the_same_vectors_alone_and_among_others(exact, write):
    ids = RANDOM.integers(4, 60, (4, 20))
    path = write(exact)
    alone = np.concatenate([run(path, ids[index : index + 1]) for index in range(4)])
    assert np.abs(alone - run(path, ids)).max() < 1e-6


def test_fixed_scales_leave_a_product_of_no_token_exact(exact):
    assert operators(static(exact)).count("MatMulIntegerToFloat") == 4
    assert operators(weights(exact)).count("MatMulNBits") == 5


@WRITERS
def test_parameters_that_are_used_twice_are_stored_once(exact, write):
    path = write(exact)
    sizes = [
        np.prod(each.dims) for each in onnx.load(path).graph.initializer if each.dims
    ]
    assert sum(size > 500 for size in sizes) <= 2 + 2  # words, and the one kept exact


@WRITERS
def test_what_a_graph_keeps_in_a_file_is_shared_and_not_copied(exact, write):
    model = onnx.load(exact)
    onnx.save(
        model,
        exact,
        save_as_external_data=True,
        location="model.data",
        size_threshold=500,
    )
    path = write(exact)
    stored = onnx.load(path, load_external_data=False).graph.initializer
    [words] = [each for each in stored if each.name == "words"]
    assert "model.data" in [each.value for each in words.external_data]
    ids = RANDOM.integers(4, 60, (2, 9))
    assert cosines(run(exact, ids), run(path, ids)).min() > 0.99


def test_a_gemm_with_turned_parameters_is_found_and_one_that_scales_is_not(tmp_path):
    nodes = [
        node("Gather", ["words", "input_ids"], "x"),
        node("Reshape", ["x", "rows"], "flat"),
        node("Gemm", ["flat", "down.two", "up.bias"], "one", transB=1),
        node("Gemm", ["flat", "down.two"], "two", transB=1, alpha=2.0),
        node("Add", ["one", "two"], "last_hidden_state"),
    ]
    tables = {
        "words": TABLES["words"],
        "rows": np.array([-1, WIDE], np.int64),
        "down.two": TABLES["up"].T.copy(),
        "up.bias": TABLES["up.bias"],
    }
    out = ("last_hidden_state", FLOAT, ["t", INNER])
    onnx.save(tiny.graph_of(nodes, IDS[:1], [out], tables), tmp_path / "g.onnx")
    [found] = ProductGraph(tmp_path / "g.onnx").products
    assert (found.output, found.transposed, found.bias) == ("one", True, "up.bias")


def test_a_sum_that_is_read_elsewhere_keeps_its_product(tmp_path):
    nodes = [
        node("Gather", ["words", "input_ids"], "x"),
        node("MatMul", ["x", "up"], "one"),
        node("Add", ["one", "up.bias"], "sum"),
        node("Mul", ["one", "sum"], "last_hidden_state"),
    ]
    tables = {name: TABLES[name] for name in ("words", "up", "up.bias")}
    out = ("last_hidden_state", FLOAT, ["b", "s", INNER])
    onnx.save(tiny.graph_of(nodes, IDS[:1], [out], tables), tmp_path / "g.onnx")
    [found] = ProductGraph(tmp_path / "g.onnx").products
    assert (found.output, found.bias) == ("one", None)


def test_a_graph_without_products_has_no_fast_one(tmp_path):
    nodes = [node("Gather", ["words", "input_ids"], "last_hidden_state")]
    out = ("last_hidden_state", FLOAT, ["b", "s", WIDE])
    model = tiny.graph_of(nodes, IDS[:1], [out], {"words": TABLES["words"]})
    onnx.save(model, tmp_path / "g.onnx")
    with pytest.raises(Unbuildable, match="no products"):
        ProductGraph(tmp_path / "g.onnx")


@pytest.mark.parametrize("size", [32, 40, 7])
def test_parameters_in_blocks_are_off_by_half_a_step_at_most(size):
    weight = RANDOM.standard_normal((size, 5)).astype(np.float32)
    weight[:, 3] = 0
    blocks, scales = quantised_blocks(weight)
    assert blocks.shape == (5, -(-size // 32), 32)
    read = (blocks.astype(np.float32) - 128) * scales[:, :, None]
    error = np.abs(read.reshape(5, -1)[:, :size].T - weight)
    assert (error <= np.repeat(scales, 32, axis=1)[:, :size].T * 0.5001).all()


@pytest.fixture
def shipped(tmp_path):
    """A prepared model that runs on its repository's own ONNX file."""
    folder = tiny.write_model(tmp_path / "source" / "shipped")
    tiny.export(folder)
    return Weights(tmp_path / "data", model_paths=(folder,))


def refuse(monkeypatch, *names):
    """Have these ways to write a fast graph end in one that is refused."""

    def refused(*args, **kwargs):
        raise Unbuildable("a test has it so")

    for name in names:
        monkeypatch.setattr(building, name, refused)


def fast(prepared):
    opened = open_proved(prepared, "fast", threads=1)
    return opened.vectors([("", text) for text in TEXTS])


@pytest.mark.parametrize(
    ("refused", "method"),
    [([], "int8-static"), (["build_static"], "int8-weights")],
)
def test_a_repositorys_own_file_has_a_fast_class_and_says_by_which_method(
    shipped, monkeypatch, refused, method
):
    refuse(monkeypatch, *refused)
    prepared = shipped.prepare("shipped")
    assert (prepared.runtime, prepared.precisions) == ("onnx", ("exact", "fast"))
    assert prepared.method("fast") == method
    assert prepared.method("exact") == "fp32"
    exact = open_proved(prepared, "exact", threads=1)
    expected = exact.vectors([("", text) for text in TEXTS])
    assert ((fast(prepared) * expected).sum(axis=1) > 0.99).all()
    assert prepared.weights_bytes(fast=True) != prepared.weights_bytes(fast=False)


def test_a_built_graph_that_fixed_scales_serve_badly_has_its_parameters_in_int8(
    tmp_path, monkeypatch
):
    refuse(monkeypatch, "build_static")
    refuse(monkeypatch, "native_fast_graph")
    folder = tiny.write_model(tmp_path / "small")
    prepared = Weights(tmp_path / "data", model_paths=(folder,)).prepare("small")
    assert (prepared.runtime, prepared.method("fast")) == ("graph", "int8-weights")
    assert fast(prepared).shape == (3, tiny.HIDDEN)


def test_a_fast_graph_that_serves_a_text_of_the_proof_badly_gives_way_to_the_next(
    tmp_path, monkeypatch
):
    # Calibrated with one text, and compared by it; nothing else is in range.
    one = [np.array([2, 5, 3])]
    monkeypatch.setattr(building, "calibration_rows", lambda *given, **more: one)
    folder = tiny.write_model(tmp_path / "small")
    prepared = Weights(tmp_path / "data", model_paths=(folder,)).prepare("small")
    assert prepared.precisions == ("exact", "fast")
    assert prepared.method("fast") == "int8-weights"


def test_a_fast_graph_that_is_slower_than_the_exact_one_is_not_kept(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(building, "_TIMED_FROM_BYTES", 0)
    monkeypatch.setattr(building, "speed_ratio", lambda exact, fast, shape: 0.99)
    folder = tiny.write_model(tmp_path / "small")
    prepared = Weights(tmp_path / "data", model_paths=(folder,)).prepare("small")
    assert prepared.precisions == ("exact",)
    assert not list(prepared.path.glob("*int8*"))


def test_too_little_space_is_said_before_a_graph_is_built(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("providers.engine.space.disk_usage", lambda _: usage)
    folder = tiny.write_model(tmp_path / "small")
    weights = Weights(tmp_path / "data", model_paths=(folder,))
    with pytest.raises(ProviderMisconfigured, match="free some space"):
        weights.prepare("small")
    assert not list((tmp_path / "data").rglob("graph-v*"))


def test_what_is_refused_is_removed_before_the_next_is_tried(shipped, monkeypatch):
    monkeypatch.setattr(building, "FAST_MEAN_COSINE", 1.1)
    prepared = shipped.prepare("shipped")
    assert prepared.method("fast") == "fp32"
    config = read_model_config(prepared.path)
    tokenizer = ModelTokenizer.from_file(prepared.path / "tokenizer.json")
    assert build_fast(prepared.path, config, tokenizer, "onnx") is None
    assert not list(prepared.path.rglob("*int8*"))


def test_an_output_that_is_a_product_keeps_its_name(exact):
    model = onnx.load(exact)
    model.graph.output.append(helper.make_tensor_value_info("one", FLOAT, None))
    onnx.save(model, exact)
    first = ProductGraph(exact).products[0]
    assert (first.output, first.bias) == ("one", None)
