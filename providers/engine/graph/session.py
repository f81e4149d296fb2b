"""ONNX Runtime sessions, and what they are fed. numpy and onnxruntime only."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from providers.engine.graph.settings import Unbuildable

TokenIds = NDArray[np.int64]


CUDA = "CUDAExecutionProvider"


def open_session(
    path: Path, *, threads: int, packed: bool = True, cuda: int | None = None
) -> onnxruntime.InferenceSession:
    """Load a graph, for the processor or for the CUDA device of that number. Raises Unbuildable.

    `packed`: products' parameters are copied into an order that is faster to read.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # It lays out memory once per shape, and every batch has its own: 70 MB more for no speed that could be measured.
    options.enable_mem_pattern = False
    # Spinning threads burn the cores that the web server needs, and stall for minutes where another process competes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not packed:
        options.add_session_config_entry("session.disable_prepacking", "1")
    providers: list[object] = ["CPUExecutionProvider"]
    if cuda is not None:
        if CUDA not in onnxruntime.get_available_providers():
            raise _without(cuda)
        onnxruntime.preload_dlls()  # those of NVIDIA's packages, if they are installed
        providers.insert(0, (CUDA, _cuda_options(cuda)))
    try:
        session = onnxruntime.InferenceSession(
            str(path),
            options,
            providers=providers,
            # It puts Add and LayerNormalization together into an operator that takes 2.6 times as long as the two.
            disabled_optimizers=["SkipLayerNormFusion"] if cuda is None else [],
        )
    except Exception as error:  # the library's own classes share no base but this
        raise Unbuildable(f"ONNX Runtime could not load {path.name}") from error
    if cuda is not None and session.get_providers()[0] != CUDA:
        raise _without(cuda)  # it would go on, and says so in its log alone
    return session


def _without(cuda: int) -> Unbuildable:
    return Unbuildable(
        f"ONNX Runtime could not use cuda:{cuda} (its own messages, if any, say why);"
        " with EMBEDDINGS_DEVICE=cpu models run on the processor"
    )


def _cuda_options(index: int) -> dict[str, str]:
    """Return what a session is opened with: float32 products are float32, and memory grows by what is asked for."""
    return {
        "device_id": str(index),
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
    }


def padded(rows: Sequence[TokenIds], pad_id: int) -> tuple[TokenIds, TokenIds]:
    """Return ids and mask, int64 (rows, longest), padded on the right."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask
