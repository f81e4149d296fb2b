"""Write a BERT-family model with its pooling as optimised ONNX graphs, from safetensors; no torch.

A graph takes `input_ids` and `attention_mask`, int64 (batch, length), padded on the right, and answers
`sentence_embedding`, float32 (batch, dimensions). The exact one computes in float32, the fast one mostly in int8.

Parameters lie in files beside the graphs, which ONNX Runtime maps instead of copying: word embeddings, half of a small
model, take memory only where they are used, and both graphs share them.
"""

from pathlib import Path

import numpy as np
import onnx

from providers.engine.checkpoint import (
    Array,
    Checkpoint,
    open_tensors,
    read_linear,
)
from providers.engine.graph.encoder import Encoder, Projections
from providers.engine.graph.exact import ExactProjections
from providers.engine.graph.head import write_head
from providers.engine.graph.int8 import Int8Projections
from providers.engine.graph.nodes import Nodes, save
from providers.engine.graph.samples import calibration_rows, take_samples
from providers.engine.machine import usable_cores
from providers.engine.model_config import FAST_GRAPH_FILE, GRAPH_FILE, ModelConfig
from providers.engine.onnx_runtime import OnnxRuntime
from providers.engine.runtime import FAST_COSINE, FAST_MEAN_COSINE, Row
from providers.engine.tokenizer import ModelTokenizer, TokenIds

_SHARED_PARAMETERS = frozenset({"words", "positions"})
_CALIBRATION_SEED, _CHECK_SEED = 1, 2
_RUN_TEXTS = 4


def build_graph(folder: Path, config: ModelConfig) -> None:
    """Write GRAPH_FILE and PARAMETERS_FILE into a folder that holds the safetensors. Raises ProviderMisconfigured."""
    save(_graph(folder, config, ExactProjections()), folder / GRAPH_FILE)


def build_fast_graph(
    folder: Path, config: ModelConfig, tokenizer: ModelTokenizer
) -> bool:
    """Write FAST_GRAPH_FILE beside the exact graph, and tell whether it is good enough; else it is not left there."""
    rows = calibration_rows(tokenizer, config.max_tokens, seed=_CALIBRATION_SEED)
    samples = take_samples(folder / GRAPH_FILE, config, rows)
    model = _graph(folder, config, Int8Projections(samples))
    _share_parameters(model, onnx.load(folder / GRAPH_FILE, load_external_data=False))
    fast = folder / FAST_GRAPH_FILE
    save(model, fast)
    checked = calibration_rows(tokenizer, config.max_tokens, seed=_CHECK_SEED)
    cosines = _cosines(folder / GRAPH_FILE, fast, config, checked)
    if cosines.mean() >= FAST_MEAN_COSINE and cosines.min() >= FAST_COSINE:
        return True
    fast.unlink()
    fast.with_suffix(".bin").unlink(missing_ok=True)  # a tiny model needs none
    return False


def _graph(
    folder: Path, config: ModelConfig, projections: Projections
) -> onnx.ModelProto:
    nodes = Nodes()
    with open_tensors(folder) as tensors:
        checkpoint = Checkpoint(tensors, config.model_type)
        tokens = Encoder(nodes, config, projections).write(checkpoint)
    dense = [read_linear(folder / layer.folder) for layer in config.dense]
    write_head(nodes, config, tokens, dense)
    return nodes.model(config.dimensions)


def _share_parameters(model: onnx.ModelProto, exact: onnx.ModelProto) -> None:
    """Let `model` use the embeddings in the exact graph's file."""
    stored = {tensor.name: tensor for tensor in exact.graph.initializer}
    for tensor in model.graph.initializer:
        if tensor.name in _SHARED_PARAMETERS:
            tensor.CopyFrom(stored[tensor.name])


def _cosines(
    exact: Path, fast: Path, config: ModelConfig, rows: list[TokenIds]
) -> Array:
    vectors = []
    for path in (exact, fast):
        runtime = OnnxRuntime(path, config, threads=usable_cores())
        runs = [
            rows[start : start + _RUN_TEXTS]
            for start in range(0, len(rows), _RUN_TEXTS)
        ]
        found = [runtime.run([Row(ids, "") for ids in run]) for run in runs]
        vectors.append(np.concatenate(found))
    a, b = vectors
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(lengths, 1e-12))
