"""The vectors that searches are measured with: real ones and what lies between them, or clusters."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.services.preparation import prepare_local_model
from providers.registry import registry

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DIMENSIONS = 384
PASSAGE = 240  # characters
AT_ONCE = 50_000
Vectors = np.ndarray[Any, np.dtype[np.float32]]


def passages(count: int) -> list[str]:
    """Return pieces of the sources of Python's own library, none of them twice."""
    pieces: dict[str, None] = {}
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        text = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
        for start in range(0, len(text) - PASSAGE, PASSAGE):
            pieces[text[start : start + PASSAGE]] = None
    chosen = list(pieces)
    np.random.default_rng(0).shuffle(chosen)
    return chosen[:count]


def embedded(texts: list[str]) -> Vectors:
    """Embed with the default model, as unit vectors."""
    prepare_local_model()
    provider = registry().get("onnx")
    assert provider is not None  # noqa: S101
    model = provider.resolve(MODEL)
    assert model is not None  # noqa: S101
    parts = [
        provider.embed(
            model,
            texts[start : start + 256],
            dimensions=None,
            input_type="document",
            timeout_seconds=600,
        ).vectors
        for start in range(0, len(texts), 256)
    ]
    return unit(np.concatenate(parts))


def real_vectors(folder: Path, count: int) -> Vectors:
    """Return the passages' vectors, from an earlier run if there was one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"passages-{count}.npy"
    if not path.exists():
        np.save(path, embedded(passages(count)))
    loaded: Vectors = np.load(path)
    return loaded


def unit(vectors: NDArray[np.floating[Any]]) -> Vectors:
    return np.asarray(
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32
    )


def many_like(real: Vectors, count: int) -> Iterator[Vectors]:
    """Yield `count` vectors between and around the real ones, some at a time."""
    random = np.random.default_rng(1)
    for start in range(0, count, AT_ONCE):
        size = min(AT_ONCE, count - start)
        one, other = (real[random.integers(len(real), size=size)] for _ in range(2))
        share = random.uniform(0.55, 1, size=(size, 1)).astype(np.float32)
        blur = unit(random.normal(size=(size, real.shape[1])).astype(np.float32))
        yield unit(share * one + (1 - share) * other + 0.3 * blur)


def clustered(count: int) -> Iterator[Vectors]:
    """Yield `count` vectors around a thousand random centres that lean to one side, some at a time."""
    random = np.random.default_rng(2)
    shape = (1000, DIMENSIONS)
    centres = unit(random.normal(size=shape) + 0.5 * random.normal(size=shape[1]))
    for start in range(0, count, AT_ONCE):
        size = min(AT_ONCE, count - start)
        blur = unit(random.normal(size=(size, shape[1])).astype(np.float32))
        yield unit(centres[random.integers(len(centres), size=size)] + 0.6 * blur)
