"""ONNX Runtime sessions on the CPU, and what they are fed. numpy and onnxruntime only."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from providers.engine.graph.settings import Unbuildable

TokenIds = NDArray[np.int64]


def open_session(
    path: Path, *, threads: int, packed: bool = True
) -> onnxruntime.InferenceSession:
    """Load a graph. Raises Unbuildable.

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
    try:
        return onnxruntime.InferenceSession(
            str(path),
            options,
            providers=["CPUExecutionProvider"],
            # It puts Add and LayerNormalization together into an operator that takes 2.6 times as long as the two.
            disabled_optimizers=["SkipLayerNormFusion"],
        )
    except Exception as error:  # the library's own classes share no base but this
        raise Unbuildable(f"ONNX Runtime could not load {path.name}") from error


def padded(rows: Sequence[TokenIds], pad_id: int) -> tuple[TokenIds, TokenIds]:
    """Return ids and mask, int64 (rows, longest), padded on the right."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask
