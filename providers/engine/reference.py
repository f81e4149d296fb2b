"""What sentence-transformers gives for a model's texts, computed in a process of its own.

torch stays out of the server: what it imports and loads ends with that process.

    python -m providers.engine.reference FOLDER VECTORS.npy < TEXTS.json
"""

import importlib.util
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import structlog

from providers.base import Vectors
from providers.engine.child import run_child
from providers.engine.machine import usable_cores
from providers.engine.model_config import read_model_config
from providers.exceptions import ProviderMisconfigured

_TIMEOUT_SECONDS = 1800.0
_CANNOT = 3
log = structlog.get_logger(__name__)


def sentence_transformers(
    folder: Path, checks: Sequence[tuple[str, str]]
) -> Vectors | None:
    """Return the vectors of (prompt, text) pairs, float32 (pairs, dimensions).

    None where sentence-transformers is not installed, or cannot load the model from what lies in `folder`.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        return None
    static = read_model_config(folder).static
    if static is None and not any(folder.glob("model*.safetensors")):
        return None  # served by the repository's ONNX file
    if static is not None and static.drops_unknown:
        return None  # only model2vec reads it
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "vectors.npy"
        finished = run_child(
            __name__,
            folder,
            answer,
            timeout_seconds=_TIMEOUT_SECONDS,
            stdin=json.dumps(checks).encode(),
        )
        if finished.succeeded:
            return np.asarray(np.load(answer), dtype=np.float32)
    log.warning("no_reference", folder=folder.name, reason=finished.reason)
    return None


def _main(folder: Path, answer: Path) -> int:
    from providers.engine.torch_runtime import load_sentence_transformer

    checks = json.load(sys.stdin)
    try:
        model = load_sentence_transformer(
            folder, name=folder.name, threads=usable_cores()
        )
    except ProviderMisconfigured as error:
        sys.stderr.write(error.message)
        return _CANNOT
    vectors = [
        model.encode([text], prompt=prompt, show_progress_bar=False)
        for prompt, text in checks
    ]
    np.save(answer, np.concatenate(vectors))
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), Path(sys.argv[2])))
