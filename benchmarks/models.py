"""Models that are built here, as local folders: MiniLM that takes 512 tokens, and larger shapes with random weights.

Speed does not depend on what the weights are. All have MiniLM's tokenizer.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

VOCABULARY = 30522
POSITIONS = 512
MAX_TOKENS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A BERT encoder's size."""

    layers: int
    hidden: int
    inner: int
    heads: int


MINILM_SHAPE = Shape(layers=6, hidden=384, inner=1536, heads=12)
# Name of the folder, which is the model's, to its shape.
MODELS = {
    "minilm-512": MINILM_SHAPE,
    "bge-base-shape": Shape(layers=12, hidden=768, inner=3072, heads=12),
    "e5-large-shape": Shape(layers=24, hidden=1024, inner=4096, heads=16),
}


def build_model(shape: Shape, minilm: Path, folder: Path) -> None:
    """Write a model's folder, in sentence-transformers' layout."""
    shutil.copytree(
        minilm, folder, ignore=shutil.ignore_patterns("graph-*", "manifest.json")
    )
    for name, changes in (
        ("sentence_bert_config.json", {"max_seq_length": MAX_TOKENS}),
        ("tokenizer_config.json", {"model_max_length": MAX_TOKENS}),
        (
            "config.json",
            {
                "num_hidden_layers": shape.layers,
                "hidden_size": shape.hidden,
                "intermediate_size": shape.inner,
                "num_attention_heads": shape.heads,
                "max_position_embeddings": POSITIONS,
            },
        ),
        (
            "1_Pooling/config.json",
            {
                "word_embedding_dimension": shape.hidden,
                "pooling_mode_mean_tokens": True,
            },
        ),
    ):
        _change(folder / name, changes)
    weights = folder / "model.safetensors"
    if shape != MINILM_SHAPE:
        weights.unlink()
        save_file(random_weights(shape), weights, metadata={"format": "pt"})


def random_weights(shape: Shape) -> dict[str, np.ndarray]:
    """Return parameters by BERT's names, float32, drawn as BERT's are before training."""
    draw = np.random.default_rng(0)
    sizes = _sizes(shape)
    return {
        name: _drawn(draw, name, size, outputs=shape.hidden)
        for name, size in sizes.items()
    }


def _drawn(
    draw: np.random.Generator, name: str, size: tuple[int, ...], *, outputs: int
) -> np.ndarray:
    if name.endswith("LayerNorm.weight"):
        return np.ones(size, np.float32)
    if len(size) == 1:
        return np.zeros(size, np.float32)
    spread = 1.0 if "word_embeddings" in name else outputs**-0.5
    return draw.standard_normal(size, np.float32) * np.float32(spread)


def _sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    hidden, inner = shape.hidden, shape.inner
    sizes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (VOCABULARY, hidden),
        "embeddings.position_embeddings.weight": (POSITIONS, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        **_norm("embeddings.LayerNorm", hidden),
    }
    for number in range(shape.layers):
        layer = f"encoder.layer.{number}"
        for part in ("query", "key", "value"):
            sizes |= _product(f"{layer}.attention.self.{part}", hidden, hidden)
        sizes |= _product(f"{layer}.attention.output.dense", hidden, hidden)
        sizes |= _norm(f"{layer}.attention.output.LayerNorm", hidden)
        sizes |= _product(f"{layer}.intermediate.dense", inner, hidden)
        sizes |= _product(f"{layer}.output.dense", hidden, inner)
        sizes |= _norm(f"{layer}.output.LayerNorm", hidden)
    return sizes | _product("pooler.dense", hidden, hidden)


def _product(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _change(file: Path, changes: Mapping[str, object]) -> None:
    values = json.loads(file.read_text()) if file.exists() else {}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({**values, **changes}, indent=1))
