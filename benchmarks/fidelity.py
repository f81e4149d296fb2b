"""How close vectors are to sentence-transformers in fp32; `python -m benchmarks.fidelity` computes those."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.child import Child, answer_questions
from benchmarks.figures import Figures

Vectors = NDArray[np.float32]
NEIGHBOURS = 10


def cosines(vectors: Vectors, reference: Vectors) -> Vectors:
    """Return each vector's cosine to its reference, float32 (n,)."""
    cosine: Vectors = np.sum(_unit(vectors) * _unit(reference), axis=1)
    return cosine


def neighbour_overlap(vectors: Vectors, reference: Vectors) -> float:
    """Return which share of each text's ten nearest texts is the same by both, on average."""
    pairs = zip(_nearest(vectors), _nearest(reference), strict=True)
    return float(np.mean([len(np.intersect1d(*pair)) / NEIGHBOURS for pair in pairs]))


def largest_difference(alone: Vectors, in_batch: Vectors) -> float:
    """Return the largest difference of any component between texts sent alone and the same texts in a batch."""
    return float(np.abs(alone - in_batch[: len(alone)]).max())


def compare(
    vectors: Mapping[str, Vectors],
    texts: list[str],
    model_folder: Path,
    scratch: Path,
    figures: Figures,
) -> None:
    """Note how close everybody's vectors of `texts` are to the reference's."""
    target = scratch / "reference.npy"
    with Child("benchmarks.fidelity", os.environ) as child:
        child.ask(
            "reference", folder=str(model_folder), texts=texts, target=str(target)
        )
    reference = np.load(target)
    for name, own in vectors.items():
        close = cosines(own, reference)
        figures.add(
            name,
            cosine_mean=float(close.mean()),
            cosine_min=float(close.min()),
            overlap=neighbour_overlap(own, reference),
        )


def write_reference(folder: str, texts: list[str], target: str) -> dict[str, float]:
    """Write sentence-transformers' own vectors of `texts` to the file `target`."""
    from sentence_transformers import SentenceTransformer  # for this process alone

    model = SentenceTransformer(folder, device="cpu")
    np.save(Path(target), model.encode(texts, normalize_embeddings=True))
    return {"texts": len(texts)}


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _nearest(vectors: Vectors) -> NDArray[np.intp]:
    scores = _unit(vectors) @ _unit(vectors).T
    np.fill_diagonal(scores, -2.0)
    return np.argpartition(-scores, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]


if __name__ == "__main__":
    answer_questions({"reference": write_reference})
