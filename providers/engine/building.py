"""Build a model's graphs for this server, and keep the fast one only where it keeps what its class promises."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from providers.engine.described import refusing
from providers.engine.graph import GRAPH_FILE, build
from providers.engine.graph.samples import calibration_rows
from providers.engine.machine import usable_cores
from providers.engine.model_config import ModelConfig
from providers.engine.onnx_runtime import OnnxRuntime
from providers.engine.runtime import FAST_COSINE, FAST_MEAN_COSINE, Row
from providers.engine.tokenizer import ModelTokenizer, TokenIds

_CALIBRATION_SEED, _CHECK_SEED = 1, 2
_RUN_TEXTS = 4
_NAMED_CHARACTERS = 80
log = structlog.get_logger(__name__)

build_graph = refusing(build.build_graph)
_build_fast_graph = refusing(build.build_fast_graph)


def build_fast_graph(
    folder: Path, config: ModelConfig, tokenizer: ModelTokenizer
) -> bool:
    """Write FAST_GRAPH_FILE beside the exact graph; if it is not good enough, remove it and return False.

    Every text counts. The log names the one that was served worst: it is one of those that ship here, or random.
    """
    rows = calibration_rows(tokenizer, config.max_tokens, seed=_CALIBRATION_SEED)
    fast = _build_fast_graph(folder, config, rows, threads=usable_cores())
    checked = calibration_rows(tokenizer, config.max_tokens, seed=_CHECK_SEED)
    cosines = _cosines(folder / GRAPH_FILE, fast, config, checked)
    if cosines.mean() >= FAST_MEAN_COSINE and cosines.min() >= FAST_COSINE:
        return True
    worst = tokenizer.decode(checked[int(cosines.argmin())].tolist())
    log.warning(
        "fast_graph_refused",
        folder=folder.name,
        mean=round(float(cosines.mean()), 4),
        least=round(float(cosines.min()), 4),
        texts=len(cosines),
        below=int((cosines < FAST_COSINE).sum()),
        worst_text=worst[:_NAMED_CHARACTERS],
    )
    fast.unlink()
    fast.with_suffix(".bin").unlink(missing_ok=True)  # a tiny model needs none
    return False


def _cosines(
    exact: Path, fast: Path, config: ModelConfig, rows: Sequence[TokenIds]
) -> NDArray[np.float32]:
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
