"""Tiny models with random weights, written without torch, and wheels that carry them."""

import hashlib
import json
import shutil
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from providers.engine.building import build_graph
from providers.engine.graph import GRAPH_FILE
from providers.engine.model_config import read_model_config
from providers.engine.pins import PinnedWheel

HIDDEN, INNER, LAYERS, HEADS, POSITIONS = 16, 32, 2, 4, 40
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *"abcdefghijklmnopqrstuvwxyz",
    *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
]


def run(model, rows, *, seconds=60):
    """Have a loaded model run `rows`."""
    return model.batcher.submit(rows, deadline=time.monotonic() + seconds)


def write_tokenizer(folder, words=WORDS):
    tokenizer = Tokenizer(
        models.WordPiece(
            {word: index for index, word in enumerate(words)}, unk_token="[UNK]"
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))


def describe_tokenizer(folder, **more):
    """Say of the tokenizer what transformers needs to know of it."""
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(described | more))


def export(folder: Path, name="onnx/model.onnx", *, keep_checkpoint=False):
    """Write a folder's own encoder as the ONNX file that others ship: ids and mask in, last_hidden_state out.

    Return it with the data in it. The checkpoint goes, and with it the way to build a graph.
    """
    pooling = folder / "1_Pooling" / "config.json"
    described = json.loads(pooling.read_text())
    pooling.write_text(json.dumps(described | {"include_prompt": False}))
    config = replace(read_model_config(folder), dense=())
    pooling.write_text(json.dumps(described))
    build_graph(folder, config)
    model = onnx.load(folder / GRAPH_FILE)
    for path in folder.glob("graph-v*"):
        path.unlink()
    if not keep_checkpoint:
        (folder / "model.safetensors").unlink()
    write_graph(folder, model, name)
    return model


def write_graph(folder: Path, model, name="onnx/model.onnx", **options):
    """Save an ONNX model into a model's folder."""
    (folder / name).parent.mkdir(exist_ok=True)
    onnx.save(model, folder / name, **options)


def graph_of(nodes, inputs, outputs, tables):
    """Make an ONNX model of nodes; inputs and outputs are (name, type, shape), tables are arrays by name."""
    ins, outs = (
        [helper.make_tensor_value_info(*value) for value in side]
        for side in (inputs, outputs)
    )
    stored = [numpy_helper.from_array(table, name) for name, table in tables.items()]
    graph = helper.make_graph(nodes, "g", ins, outs, stored)
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def write_model(folder: Path, *, seed=0, **config):
    """Write a whole sentence-transformers folder around a tiny BERT."""
    folder.mkdir(parents=True, exist_ok=True)
    described = {
        "model_type": "bert",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": POSITIONS,
        "hidden_act": "gelu",
        "pad_token_id": 0,
        "vocab_size": len(WORDS),
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(described | config))
    write_modules(folder)
    write_tokenizer(folder)
    save_file(_parameters(np.random.default_rng(seed)), folder / "model.safetensors")
    return folder


def write_modules(folder, pooling=None, *, normalize=True, dense=None):
    (folder / "1_Pooling").mkdir(exist_ok=True)
    settings = {"word_embedding_dimension": HIDDEN} | (
        pooling or {"pooling_mode_mean_tokens": True}
    )
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if dense is not None:
        (folder / "2_Dense").mkdir(exist_ok=True)
        (folder / "2_Dense" / "config.json").write_text(json.dumps(dense))
        modules.append(("2_Dense", "Dense"))
    if normalize:
        modules.append(("3_Normalize", "Normalize"))
    listed = [
        {
            "idx": index,
            "name": str(index),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 32, "do_lower_case": False})
    )


def write_wheel(path: Path, model: Path) -> PinnedWheel:
    """Pack a model folder as a wheel and return its pin."""
    hashes = {}
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(model.rglob("*")):
            if file.is_file():
                name = file.relative_to(model).as_posix()
                archive.write(file, f"tiny/{name}")
                hashes[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return PinnedWheel(
        requirement="tiny==1",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        folder="tiny",
        files=hashes,
    )


def copying(wheel: Path, calls: list | None = None):
    """Return a fake pip download, which copies `wheel`."""

    def fetch(requirement, folder):
        if calls is not None:
            calls.append(requirement)
        shutil.copy(wheel, folder / "tiny-1-py3-none-any.whl")

    return fetch


def _parameters(random):
    def array(*shape):
        return (random.standard_normal(shape) * 0.3).astype(np.float32)

    def linear(name, inputs, outputs):
        return {
            f"{name}.weight": array(outputs, inputs),
            f"{name}.bias": array(outputs),
        }

    def norm(name):
        return {f"{name}.weight": array(HIDDEN) + 1, f"{name}.bias": array(HIDDEN)}

    tensors = {
        "embeddings.word_embeddings.weight": array(len(WORDS), HIDDEN),
        "embeddings.position_embeddings.weight": array(POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": array(2, HIDDEN),
    } | norm("embeddings.LayerNorm")
    for index in range(LAYERS):
        layer = f"encoder.layer.{index}."
        for part in ("query", "key", "value"):
            tensors |= linear(f"{layer}attention.self.{part}", HIDDEN, HIDDEN)
        tensors |= linear(f"{layer}attention.output.dense", HIDDEN, HIDDEN)
        tensors |= norm(f"{layer}attention.output.LayerNorm")
        tensors |= linear(f"{layer}intermediate.dense", HIDDEN, INNER)
        tensors |= linear(f"{layer}output.dense", INNER, HIDDEN)
        tensors |= norm(f"{layer}output.LayerNorm")
    return tensors
