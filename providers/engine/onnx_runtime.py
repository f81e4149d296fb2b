"""ONNX Runtime on the CPU: sessions that know how many cores they may use and do not hoard memory."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from providers.base import Vectors
from providers.engine import pooling
from providers.engine.model_config import ModelConfig
from providers.engine.runtime import Row
from providers.exceptions import ProviderMisconfigured

# Beyond this many padded tokens a run is a single long text; what the arena grew to for it is given back afterwards.
_SHRINK_FROM_TOKENS = 1024
_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """Return the cores this process may use: its affinity, and a container's quota (cgroup v2) if that is less."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = cgroup_limit.read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2, or "max": no quota
    return max(cores, 1)


class OnnxRuntime:
    """One session over a graph built here (vectors come out) or an exported encoder (token vectors come out)."""

    def __init__(self, path: Path, config: ModelConfig, *, threads: int) -> None:
        self._session = _session(path, threads)
        self._inputs = {
            entry.name: np.int64 if "int64" in entry.type else np.int32
            for entry in self._session.get_inputs()
        }
        self._output = self._session.get_outputs()[0].name
        self._pad = int(config.encoder.get("pad_token_id") or 0)
        self._config = config
        self._pooled = self._output == "sentence_embedding"
        unknown = self._inputs.keys() - {
            "input_ids",
            "attention_mask",
            "token_type_ids",
        }
        if unknown:
            raise ProviderMisconfigured(
                f"The ONNX file {path.name} wants inputs that no text has: {sorted(unknown)}."
            )

    def run(self, rows: Sequence[Row]) -> Vectors:
        """Return float32 (len(rows), dimensions); rows are padded to the longest of them."""
        ids, mask = _padded(rows, self._pad)
        values = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
        }
        feed = {
            name: values[name].astype(kind, copy=False)
            for name, kind in self._inputs.items()
        }
        options = onnxruntime.RunOptions()
        if ids.size > _SHRINK_FROM_TOKENS:
            options.add_run_config_entry(
                "memory.enable_memory_arena_shrinkage", "cpu:0"
            )
        output = np.asarray(
            self._session.run([self._output], feed, options)[0], dtype=np.float32
        )
        if self._pooled:
            return output
        vectors = (
            pooling.pool(output, mask, self._config.pooling)
            if output.ndim == 3
            else output
        )
        return pooling.normalize(vectors) if self._config.normalize else vectors


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # Spinning threads burn the cores that the web server needs, and stall for minutes where another process competes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the library's own classes share no base but this
        raise ProviderMisconfigured(
            f"ONNX Runtime could not load {path.name}."
        ) from error


def _padded(
    rows: Sequence[Row], pad: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids and mask, int64 (rows, longest), padded on the right."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row.token_ids
        mask[index, : len(row)] = 1
    return ids, mask
