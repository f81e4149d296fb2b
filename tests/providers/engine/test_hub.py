"""Fetching from a hub, a local one."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper
from onnx.external_data_helper import set_external_data
from safetensors.numpy import load_file, save_file

from providers.engine import files, machine
from providers.engine.building import build_graph
from providers.engine.graph import GRAPH_FILE
from providers.engine.hub import Hub
from providers.engine.model_config import read_model_config
from providers.engine.onnx_runtime import OnnxRuntime
from providers.engine.pool import Pool, PoolLimits
from providers.engine.runtime import Row
from providers.engine.weights import Weights
from providers.exceptions import (
    ActionCancelled,
    ProviderDenied,
    ProviderMisconfigured,
    ProviderUnavailable,
    UnknownModel,
)
from providers.progress import Progress, progress_of
from tests.providers.engine import tiny
from tests.providers.engine.fake_hub import COMMIT, NAME, FakeHub
from tests.servers import serving


@pytest.fixture
def repository(tmp_path):
    folder = tiny.write_model(tmp_path / "repository")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "README.md").write_text("text")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"not needed for a BERT")
    return folder


@pytest.fixture
def hub(repository, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with serving(FakeHub(repository)) as server:
        yield server


@pytest.fixture
def weights(hub, tmp_path):
    return Weights(tmp_path / "data", hub=Hub(endpoint=hub.endpoint, token="hf_secret"))


def test_only_the_files_needed_are_fetched_at_one_commit(hub, weights):
    prepared = weights.prepare(NAME)
    assert prepared.manifest.revision == COMMIT
    assert prepared.runtime == "graph"
    fetched = {
        path.split(f"/resolve/{COMMIT}/")[1]
        for command, path, *_ in hub.requests
        if "/resolve/" in path
    }
    assert {
        "config.json",
        "tokenizer.json",
        "1_Pooling/config.json",
        "model.safetensors",
    } <= fetched
    assert not {"pytorch_model.bin", "README.md", "onnx/model.onnx"} & fetched
    assert {authorization for *_, authorization in hub.requests} == {"Bearer hf_secret"}


def fetched_from(hub):
    return {
        path.split(f"/resolve/{COMMIT}/")[1]
        for command, path, *_ in hub.requests
        if command == "GET" and "/resolve/" in path
    }


def test_stray_checkpoints_are_not_fetched(hub, weights, repository):
    checkpoint = (repository / "model.safetensors").read_bytes()
    for stray in ("model_old.safetensors", "1_Pooling/other.safetensors"):
        (repository / stray).write_bytes(checkpoint)
    weights.prepare(NAME)
    tensors = {name for name in fetched_from(hub) if name.endswith(".safetensors")}
    assert tensors == {"model.safetensors"}


def test_a_sharded_checkpoint_is_fetched_by_its_index(hub, weights, repository):
    tensors = load_file(repository / "model.safetensors")
    (repository / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, repository / file)
    (repository / "c.safetensors").write_bytes(b"no part of it")
    index = {name: file for file, part in shards.items() for name in part}
    described = json.dumps({"weight_map": index})
    (repository / "model.safetensors.index.json").write_text(described)
    assert weights.prepare(NAME).runtime == "graph"
    found = {name for name in fetched_from(hub) if name.endswith(".safetensors")}
    assert found == set(shards)


def test_a_shard_that_the_repository_lacks_is_named(hub, weights, repository):
    (repository / "model.safetensors").unlink()
    described = json.dumps({"weight_map": {"a": "gone.safetensors"}})
    (repository / "model.safetensors.index.json").write_text(described)
    with pytest.raises(ProviderMisconfigured, match=r"lacks gone\.safetensors"):
        weights.prepare(NAME)


def write_remote_code(repository):
    """Say of a repository what Jina's v2 models say of theirs."""
    path = repository / "config.json"
    code = "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"
    described = json.loads(path.read_text()) | {
        "auto_map": {"AutoModel": code},
        "position_embedding_type": "alibi",
    }
    path.write_text(json.dumps(described))


def test_of_a_remote_code_repository_the_onnx_file_is_fetched_and_serves(
    hub, weights, repository
):
    tiny.export(repository, keep_checkpoint=True)
    write_remote_code(repository)
    assert weights.prepare(NAME).runtime == "onnx"
    assert "onnx/model.onnx" in fetched_from(hub)
    assert "model.safetensors" not in fetched_from(hub)


def test_without_an_onnx_file_it_is_refused_before_its_weights_are_fetched(
    hub, weights, repository
):
    (repository / "onnx" / "model.onnx").unlink()
    write_remote_code(repository)
    with pytest.raises(ProviderMisconfigured, match=r"remote code .*no ONNX file"):
        weights.prepare(NAME)
    assert "model.safetensors" not in fetched_from(hub)


def test_what_needs_torch_is_refused_before_its_weights_are_fetched(
    hub, weights, repository, monkeypatch
):
    monkeypatch.setattr(machine, "has_torch", lambda: False)
    (repository / "onnx" / "model.onnx").unlink()
    path = repository / "config.json"
    described = json.loads(path.read_text()) | {"hidden_act": "mish"}
    path.write_text(json.dumps(described))
    with pytest.raises(
        ProviderMisconfigured, match=r"only run on torch.*\(its activation \(mish\)"
    ):
        weights.prepare(NAME)
    assert "model.safetensors" not in fetched_from(hub)


@pytest.mark.parametrize("kind", ["model2vec", "clip"])
def test_a_repository_of_another_kind_is_refused_by_its_kind(
    hub, weights, repository, kind
):
    config = {"model_type": kind} | (
        {"text_config": {"a": 1}} if kind == "clip" else {}
    )
    (repository / "config.json").write_text(json.dumps(config))
    with pytest.raises(ProviderMisconfigured, match=r"static|multimodal"):
        weights.prepare(NAME)
    assert "model.safetensors" not in fetched_from(hub)


def write_bge_m3(repository):
    """Lay out a repository as BAAI/bge-m3 is; return the vectors that its checkpoint gives."""
    described = {
        "_name_or_path": "",
        "architectures": ["XLMRobertaModel"],
        "attention_probs_dropout_prob": 0.1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-05,
        "model_type": "xlm-roberta",
        "output_past": True,
        "pad_token_id": 1,
        "position_embedding_type": "absolute",
        "torch_dtype": "float32",
        "transformers_version": "4.33.0",
        "type_vocab_size": 1,
        "use_cache": True,
    }
    tiny.write_model(repository, **described)
    tiny.write_modules(
        repository,
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    )
    (repository / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 8192, "do_lower_case": False})
    )
    config = read_model_config(repository)
    build_graph(repository, config)
    runtime = OnnxRuntime(repository / GRAPH_FILE, config, threads=1)
    expected = runtime.run([Row(np.array([2, 4, 5, 3]), "")])
    model = tiny.export(repository)
    (repository / "onnx" / "model.onnx").unlink()
    # Token types are a constant of the graph, and that is what the third file holds.
    types = next(t for t in model.graph.initializer if t.name == "positions")
    model.graph.initializer.remove(types)
    node = helper.make_node("Constant", [], ["positions"], value=types)
    model.graph.node.insert(0, node)
    tensor = model.graph.node[0].attribute[0].t
    set_external_data(tensor, "Constant_7_attr__value")
    (repository / "onnx" / "Constant_7_attr__value").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tiny.write_graph(
        repository, model, save_as_external_data=True, location="model.onnx_data"
    )
    for file in ("colbert_linear.pt", "sparse_linear.pt", "pytorch_model.bin"):
        (repository / file).write_bytes(b"pickle")
    for file in ("config.json", "tokenizer.json"):
        shutil.copy(repository / file, repository / "onnx" / file)
    (repository / "sentencepiece.bpe.model").write_bytes(b"model")
    return expected


def test_a_repository_laid_out_as_bge_m3_is_fetched_loaded_and_answers(
    hub, weights, repository
):
    expected = write_bge_m3(repository)
    present = {path.name for path in (repository / "onnx").iterdir()}
    assert {"model.onnx", "model.onnx_data", "Constant_7_attr__value"} <= present
    prepared = weights.prepare(NAME)
    assert prepared.runtime == "onnx"
    fetched = {name for name in fetched_from(hub) if name.startswith("onnx/")}
    names = {"model.onnx", "model.onnx_data", "Constant_7_attr__value"}
    assert fetched == {f"onnx/{name}" for name in names}
    assert not {name for name in fetched_from(hub) if name.endswith((".bin", ".pt"))}
    pool = Pool(weights, PoolLimits(threads=1))
    model = pool.model(NAME)
    rows = [Row(model.tokenizer.encode(["a b"])[0], "a b")]
    found = tiny.run(model, rows, seconds=60)
    assert np.abs(found - expected).max() < 1e-6
    pool.close()


def test_modules_are_fetched_from_whatever_folders_they_lie_in(
    hub, weights, repository
):
    (repository / "1_Pooling").rename(repository / "pooling")
    path = repository / "modules.json"
    path.write_text(path.read_text().replace("1_Pooling", "pooling"))
    assert "pooling/config.json" in weights.prepare(NAME).manifest.files


def test_what_another_commit_left_half_fetched_is_not_served(hub, weights, repository):
    hub.cuts = [0] * 50
    with pytest.raises(ProviderUnavailable):
        weights.prepare(NAME)
    hub.cuts = []
    (repository / "1_Pooling" / "config.json").unlink()
    (repository / "modules.json").unlink()
    assert "modules.json" not in weights.prepare(NAME).manifest.files


def test_a_prepared_model_needs_no_hub(hub, weights):
    weights.prepare(NAME)
    hub.requests.clear()
    weights.prepare(NAME)
    assert hub.requests == []


def age(prepared):
    """Leave a prepared model as an older version did, whose graphs had another name."""
    for path in prepared.path.glob("graph-v*"):
        path.rename(path.with_name(f"graph-v0{path.suffix}"))
    manifest = files.read_manifest(prepared.path)
    assert manifest is not None
    kept = {n: r for n, r in manifest.files.items() if not n.startswith("graph-v")}
    old = files.record_of(prepared.path / "graph-v0.onnx")
    files.write_manifest(
        prepared.path, replace(manifest, files={**kept, "graph-v0.onnx": old})
    )


def test_what_an_older_version_prepared_is_made_again_without_the_hub(hub, weights):
    before = weights.prepare(NAME)
    age(before)
    hub.requests.clear()
    assert weights.find(NAME) is None
    assert weights.outdated() == [NAME]
    assert weights.prepare(NAME).manifest == before.manifest
    assert weights.outdated() == []
    assert hub.requests == []
    assert not list(before.path.glob("graph-v0*"))


def test_damaged_checkpoint_of_an_older_version_is_fetched_again(hub, weights):
    before = weights.prepare(NAME)
    age(before)
    (before.path / "model.safetensors").write_bytes(b"cut")
    hub.requests.clear()
    assert weights.prepare(NAME).manifest == before.manifest
    assert any("model.safetensors" in path for _, path, *_ in hub.requests)


def test_a_cut_download_is_continued(hub, weights):
    hub.cuts = [3000]
    assert weights.prepare(NAME).runtime == "graph"
    fetched = [
        path
        for command, path, *_ in hub.requests
        if command == "GET" and path.endswith("model.safetensors")
    ]
    assert len(fetched) == 2


def test_files_that_arrived_before_a_failure_are_not_fetched_again(hub, weights):
    hub.cuts = [0] * 50
    with pytest.raises(ProviderUnavailable):
        weights.prepare(NAME)
    assert weights.find(NAME) is None
    hub.cuts = []
    hub.requests.clear()
    assert weights.prepare(NAME).runtime == "graph"
    fetched = [
        path
        for command, path, *_ in hub.requests
        if command == "GET" and "/resolve/" in path
    ]
    assert [path.rsplit("/", 1)[1] for path in fetched] == ["model.safetensors"]


def test_a_file_with_another_hash_is_thrown_away(hub, weights):
    hub.damaged = True
    with pytest.raises(ProviderUnavailable, match="damaged"):
        weights.prepare(NAME)
    assert weights.find(NAME) is None
    hub.damaged = False
    assert weights.prepare(NAME)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ((404, "RepoNotFound"), UnknownModel),
        ((401, "RepoNotFound"), UnknownModel),
        ((401, "GatedRepo"), ProviderDenied),
        ((403, "GatedRepo"), ProviderDenied),
        ((403, ""), ProviderDenied),
        ((500, ""), ProviderUnavailable),
        ((503, ""), ProviderUnavailable),
    ],
)
def test_the_hubs_refusals_are_kept_apart(hub, weights, fault, error):
    hub.fault = fault
    with pytest.raises(error) as raised:
        weights.prepare(NAME)
    assert type(raised.value) is error
    assert "hf_secret" not in raised.value.message
    assert hub.endpoint not in raised.value.message


def test_no_network_is_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    weights = Weights(tmp_path / "data", hub=Hub(endpoint="http://127.0.0.1:9"))
    with pytest.raises(ProviderUnavailable):
        weights.prepare(NAME)


def test_a_repository_with_nothing_but_pickles_is_refused(hub, weights, repository):
    (repository / "model.safetensors").unlink()
    (repository / "onnx" / "model.onnx").unlink()
    with pytest.raises(ProviderMisconfigured, match="pickled"):
        weights.prepare(NAME)


class Watched(Progress):
    """Note every change; cancel at the first one for which `when` holds."""

    def __init__(self, when=lambda progress: False):
        super().__init__(self._note)
        self.seen = []
        self._when = when

    def _note(self, progress):
        self.seen.append((progress.stage, progress.done_bytes, progress.total_bytes))
        if self._when(progress):
            self.cancel()


@pytest.fixture
def watched():
    """Return a function that has this thread's actions watched."""
    tokens = []

    def watch(when=lambda progress: False):
        progress = Watched(when)
        tokens.append(progress_of.set(progress))
        return progress

    yield watch
    for token in reversed(tokens):
        progress_of.reset(token)


def test_bytes_are_counted_while_they_come(weights, repository, watched):
    progress = watched()
    weights.prepare(NAME)
    stages = list(dict.fromkeys(stage for stage, *_ in progress.seen))
    assert stages == [
        "checking what is here",
        "fetching",
        "building its graph",
        "building its fast graph",
        "checking its vectors",
    ]
    fetched = [(done, total) for stage, done, total in progress.seen if total]
    done, total = fetched[-1]
    assert done == total >= (repository / "model.safetensors").stat().st_size


def test_cancelled_download_loads_nowhere_and_the_next_one_goes_on(
    hub, weights, repository, watched
):
    size = (repository / "model.safetensors").stat().st_size
    watched(lambda progress: progress.done_bytes >= size)
    with pytest.raises(ActionCancelled):
        weights.prepare(NAME)
    assert weights.find(NAME) is None
    watched()
    before = len(hub.requests)
    assert weights.prepare(NAME)
    fetched = [path for command, path, *_ in hub.requests[before:] if command == "GET"]
    assert not any(path.endswith("/tokenizer.json") for path in fetched)


def test_who_waits_for_another_s_download_can_be_cancelled(weights, watched, tmp_path):
    watched(lambda progress: progress.stage.startswith("waiting"))
    with (
        files.locked(tmp_path / "data" / "locks" / f"{NAME.replace('/', '--')}.lock"),
        pytest.raises(ActionCancelled),
    ):
        weights.prepare(NAME)
