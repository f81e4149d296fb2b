"""Families without a graph of their own: exported once where torch is, and then served without it."""

import contextlib
import importlib.util
import io
import json
import sys
import warnings
from typing import Any

import numpy as np
import pytest

from providers.engine import building, reference, torch_export
from providers.engine.archives import export_model
from providers.engine.child import Finished
from providers.engine.model_config import read_model_config
from providers.engine.pool import Pool, PoolLimits
from providers.engine.reference import sentence_transformers
from providers.engine.repository import EXPORTED_DATA, EXPORTED_FILE
from providers.engine.runtime import rows_of
from providers.engine.verification import open_proved
from providers.engine.weights import Weights
from providers.exceptions import ProviderMisconfigured
from tests.providers.engine import tiny
from tests.providers.engine.test_archives import served_without_torch, vectors

SIZES = {
    "vocab_size": len(tiny.WORDS),
    "hidden_size": tiny.HIDDEN,
    "intermediate_size": tiny.INNER,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": tiny.POSITIONS,
    "pad_token_id": 0,
}
RELATIVE = {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_buckets": 8,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "type_vocab_size": 0,
}
SHARED_KEYS = {"num_key_value_heads": 2}
T5 = {
    "vocab_size": len(tiny.WORDS),
    "d_model": tiny.HIDDEN,
    "d_kv": 4,
    "d_ff": tiny.INNER,
    "num_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "albert": ("AlbertModel", "AlbertConfig", SIZES | {"embedding_size": 8}),
    "deberta": ("DebertaV2Model", "DebertaV2Config", SIZES | RELATIVE),
    "t5": ("T5EncoderModel", "T5Config", T5),
    "qwen2": ("Qwen2Model", "Qwen2Config", SIZES | SHARED_KEYS),
}
# One takes a minute of a processor: the core suite has none of them, the torch tests all.
LONGEST = 32
TEXTS = ["a", "Z 7", "b c d e f", "中 é 🎉", "[PAD]", "word " * 3, "x y z " * 40]


def write_family(folder, family, torch_reference):
    """Write a tiny model of a family, with weights large enough that attention and positions matter."""
    folder.mkdir(parents=True)
    torch, transformers = torch_reference.torch, torch_reference.transformers
    kind, config, sizes = FAMILIES[family]
    torch.manual_seed(3)
    model = getattr(transformers, kind)(getattr(transformers, config)(**sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    tiny.write_modules(folder)
    tiny.write_tokenizer(folder)
    tiny.describe_tokenizer(folder)
    return folder


def prepare(tmp_path, folder, compared=sentence_transformers):
    weights = Weights(tmp_path / "data", model_paths=(folder,), reference=compared)
    return weights, weights.prepare(folder.name)


@pytest.fixture
def one_process(monkeypatch):
    """Have here what else runs in processes of its own: torch is loaded once, and not for each model."""

    def run(module, *arguments, timeout_seconds, stdin=b""):
        said = io.StringIO()
        with (
            monkeypatch.context() as patch,
            contextlib.redirect_stderr(said),
            warnings.catch_warnings(action="ignore"),  # errors in these tests alone
        ):
            patch.setattr(sys, "stdin", io.StringIO(stdin.decode()))
            code = sys.modules[module]._main(*arguments)
        return Finished("" if code == 0 else said.getvalue())

    for module in (torch_export, reference):
        monkeypatch.setattr(module, "run_child", run)


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.e2e
@pytest.mark.timeout(600)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_exported_family_is_exact_alone_and_among_others(
    tmp_path, torch_reference, one_process, family
):
    folder = write_family(tmp_path / "own" / family, family, torch_reference)
    weights, prepared = prepare(tmp_path, folder)
    assert (prepared.runtime, prepared.manifest.note) == ("exported", "")
    assert prepared.manifest.proof.verified == "reference"
    assert prepared.precisions == ("exact", "fast")
    with Pool(weights, PoolLimits(threads=1)).using(family) as loaded:
        tokenizer = loaded.tokenizer
        texts = [tokenizer.truncate(text, LONGEST) for text in TEXTS]
        assert max(tokenizer.count(texts)) >= LONGEST - 1  # some characters are several
        rows = rows_of(tokenizer, texts, "", pooled=True)
        together = tiny.run(loaded, rows)
        alone = np.concatenate([tiny.run(loaded, [row]) for row in rows])
    expected = torch_reference.whole(folder).encode(texts, batch_size=1)
    assert cosines(together, expected).min() >= 0.9999
    assert cosines(alone, expected).min() >= 0.9999
    assert np.abs(alone - together).max() < 1e-6


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_an_exported_model_goes_to_a_machine_without_torch(tmp_path, torch_reference):
    folder = tiny.write_model(tmp_path / "own" / "small", hidden_act="mish")
    tiny.describe_tokenizer(folder)
    weights, prepared = prepare(tmp_path, folder)
    assert prepared.runtime == "exported"
    target = tmp_path / "small.zip"
    export_model(weights, "small", target)
    (tmp_path / "there").mkdir()
    found = served_without_torch(target, tmp_path / "there")
    assert found.keys() == set(prepared.precisions)
    for precision, there in found.items():
        assert np.abs(there - vectors(prepared, precision)).max() < 1e-6


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_a_module_that_only_sentence_transformers_has_is_exported_with_the_rest(
    tmp_path, torch_reference, one_process
):
    folder = tiny.write_model(tmp_path / "own" / "normed")
    tiny.describe_tokenizer(folder)
    library = torch_reference.sentence_transformers
    norm = library.models.LayerNorm(tiny.HIDDEN)
    with torch_reference.torch.no_grad():
        norm.norm.weight.normal_(1, 0.5)
        norm.norm.bias.normal_(0, 0.5)
    model = torch_reference.whole(folder)
    whole = library.SentenceTransformer(modules=[model[0], model[1], norm])
    whole.save(str(tmp_path / "saved" / "normed"))
    _, prepared = prepare(tmp_path, tmp_path / "saved" / "normed")
    assert prepared.runtime == "exported"
    texts = ["a", "b c d", "e f g h"]
    opened = open_proved(prepared, "exact", threads=1)
    found = opened.vectors([("", text) for text in texts])
    assert np.abs(found - whole.encode(texts)).max() < 1e-4


def torch_only(tmp_path):
    """A model that no graph is built for, since its activation is none of those a graph has."""
    folder = tiny.write_model(tmp_path / "own" / "small", hidden_act="mish")
    tiny.describe_tokenizer(folder)
    return folder


def on_torch(prepared, note):
    assert prepared.runtime == "torch"
    assert note in prepared.manifest.note
    assert not list(prepared.path.glob("export*"))
    return True


@pytest.fixture
def exporting(monkeypatch):
    """Have the export's process write these files and end as it is told to."""

    def ends(reason):
        def run(module, folder, **options):
            (folder / EXPORTED_FILE).write_bytes(b"half")
            (folder / EXPORTED_DATA).write_bytes(b"half")
            return Finished(reason)

        monkeypatch.setattr(torch_export, "run_child", run)
        monkeypatch.setattr(torch_export, "_lack", lambda config: None)

    return ends


@pytest.mark.torch
def test_what_cannot_be_exported_runs_on_torch_and_says_why(tmp_path, exporting):
    exporting("an operator is unknown")
    _, prepared = prepare(tmp_path, torch_only(tmp_path), None)
    assert on_torch(prepared, "could not be exported: an operator is unknown")


@pytest.mark.torch
def test_an_export_that_nothing_was_compared_with_is_not_served(
    tmp_path, exporting, monkeypatch
):
    exporting("")
    ready = tiny.write_model(tmp_path / "ready" / "small", hidden_act="gelu")

    def export(folder, config):
        tiny.export(ready, keep_checkpoint=True)
        (ready / "onnx" / "model.onnx").rename(folder / EXPORTED_FILE)

    monkeypatch.setattr(torch_export, "export", export)
    _, prepared = prepare(tmp_path, torch_only(tmp_path), lambda folder, checks: None)
    assert on_torch(prepared, "nothing to compare")


@pytest.mark.torch
def test_an_export_that_differs_from_sentence_transformers_is_not_served(
    tmp_path, monkeypatch, torch_reference, one_process
):
    ready = tiny.write_model(tmp_path / "ready" / "small", hidden_act="relu")

    def export(folder, config):
        tiny.export(ready, keep_checkpoint=True)
        (ready / "onnx" / "model.onnx").rename(folder / EXPORTED_FILE)

    monkeypatch.setattr(torch_export, "export", export)
    _, prepared = prepare(tmp_path, torch_only(tmp_path))
    assert on_torch(prepared, "not those of sentence-transformers")
    assert prepared.manifest.proof.verified == "reference"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"query_expansion": True}, "only sentence-transformers heeds query_expansion"),
        ({}, "onnxscript"),
    ],
)
def test_what_an_export_would_leave_out_is_not_exported(
    tmp_path, monkeypatch, files, reason
):
    folder = torch_only(tmp_path)
    path = folder / "sentence_bert_config.json"
    path.write_text(json.dumps({"max_seq_length": 32} | files))
    monkeypatch.setattr(torch_export, "has_torch", lambda: bool(files))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: bool(files) or None)
    assert reason in str(torch_export.export(folder, read_model_config(folder)))


def test_a_refused_export_leaves_nothing(tmp_path):
    for name in (EXPORTED_FILE, EXPORTED_DATA, "export-v1-int8-static.onnx"):
        (tmp_path / name).write_bytes(b"")
    built = building.Built("exported").without_export(tmp_path, "x")
    assert (built.runtime, list(tmp_path.iterdir())) == ("torch", [])
    assert "x" in built.note


def test_a_model_that_needs_torch_is_refused_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr("providers.engine.machine.has_torch", lambda: False)
    with pytest.raises(ProviderMisconfigured, match=r"embeddings-server\[torch\]"):
        prepare(tmp_path, torch_only(tmp_path), None)
