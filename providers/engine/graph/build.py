"""Write a text encoder with its pooling as optimised ONNX graphs, from safetensors; no torch.

A graph takes `input_ids` and `attention_mask`, int64 (batch, length), padded on the right, and answers
`sentence_embedding`, float32 (batch, dimensions). The exact one computes in float32, the fast one mostly in int8.

Parameters lie in files beside the graphs, which ONNX Runtime maps instead of copying: word embeddings, half of a small
model, take memory only where they are used, and both graphs share them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from providers.engine.graph import FAST_GRAPH_FILE, GRAPH_FILE
from providers.engine.graph.bert_checkpoint import BertCheckpoint
from providers.engine.graph.bert_encoder import BertEncoder
from providers.engine.graph.checkpoint import Tensors, open_tensors, read_linear
from providers.engine.graph.config import GraphConfig
from providers.engine.graph.exact import ExactProjections
from providers.engine.graph.head import write_head
from providers.engine.graph.int8 import Int8Projections
from providers.engine.graph.nodes import Nodes, ParameterFile
from providers.engine.graph.parts import Projections
from providers.engine.graph.rotary_checkpoint import RotaryCheckpoint
from providers.engine.graph.rotary_encoder import RotaryEncoder
from providers.engine.graph.rotary_families import ROTARY, read_rotary
from providers.engine.graph.samples import take_samples
from providers.engine.graph.session import TokenIds
from providers.engine.graph.settings import Unbuildable

_SHARED_PARAMETERS = ("words", "positions", "rotations.")


def build_graph(folder: Path, config: GraphConfig) -> Path:
    """Write GRAPH_FILE and PARAMETERS_FILE into a folder that holds the safetensors. Raises Unbuildable."""
    path = folder / GRAPH_FILE
    _build(folder, config, ExactProjections(), path)
    return path


def build_fast_graph(
    folder: Path, config: GraphConfig, rows: Sequence[TokenIds], *, threads: int
) -> Path:
    """Write FAST_GRAPH_FILE beside the exact graph, which runs `rows` for calibration. Raises Unbuildable.

    `rows`: token ids of texts, int64 (tokens,), special tokens included, by length.
    Whether it is good enough is for the caller to measure: int8 serves some models badly.
    """
    exact, path = folder / GRAPH_FILE, folder / FAST_GRAPH_FILE
    samples = take_samples(exact, config, rows, threads=threads)
    stored = onnx.load(exact, load_external_data=False).graph.initializer
    shared = {t.name: t for t in stored if t.name.startswith(_SHARED_PARAMETERS)}
    _build(folder, config, Int8Projections(samples), path, shared)
    return path


def _build(
    folder: Path,
    config: GraphConfig,
    projections: Projections,
    path: Path,
    shared: Mapping[str, onnx.TensorProto] | None = None,
) -> None:
    if config.unsupported is not None:
        raise Unbuildable(config.unsupported)
    nodes = Nodes(ParameterFile(path.with_suffix(".bin"), shared))
    with open_tensors(folder) as tensors:
        tokens = _write_encoder(nodes, config, projections, tensors)
    if not config.include_prompt:
        # Only the runtime knows which tokens are a prompt's, so it pools by itself.
        nodes.node("Identity", [tokens], "last_hidden_state")
        model = nodes.model("last_hidden_state", ["batch", "length", config.hidden])
    else:
        dense = [read_linear(folder, layer) for layer in config.dense]
        write_head(nodes, config, tokens, dense)
        model = nodes.model("sentence_embedding", ["batch", config.dimensions])
    onnx.save(model, path)
    onnx.checker.check_model(path)


def _write_encoder(
    nodes: Nodes, config: GraphConfig, projections: Projections, tensors: Tensors
) -> str:
    """Write the encoder, and return the name of its token vectors, float32 (batch, length, hidden)."""
    if config.model_type in ROTARY:
        rotary = read_rotary(config.encoder)
        parameters = RotaryCheckpoint(tensors, rotary)
        return RotaryEncoder(nodes, rotary, projections).write(parameters)
    checkpoint = BertCheckpoint(tensors, config)
    return BertEncoder(nodes, config, projections).write(checkpoint)
