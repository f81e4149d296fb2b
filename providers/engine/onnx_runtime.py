"""ONNX Runtime: sessions that take as many cores as they are given, or a device, and do not hoard memory."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from providers.base import Vectors
from providers.engine import pooling
from providers.engine.described import refusing
from providers.engine.devices import CPU, Device
from providers.engine.graph import checkpoint
from providers.engine.graph.session import open_session as _open_session
from providers.engine.graph.session import padded
from providers.engine.graph.settings import Unbuildable
from providers.engine.machine import map_large_blocks, trim_heap
from providers.engine.model_config import ModelConfig
from providers.engine.onnx_signature import Ids, Inputs, choose_output
from providers.engine.repository import WHOLE
from providers.engine.runtime import Row
from providers.exceptions import ProviderMisconfigured

# Beyond this many padded tokens a run is a single long text; what the arena grew to for it is given back afterwards.
_SHRINK_FROM_TOKENS = 1024
# Handing parts of a run to other cores takes longer than computing them for texts shorter than this.
_WIDE_FROM_TOKENS = 64

_read_linear = refusing(checkpoint.read_linear)


class OnnxRuntime:
    """A graph built here (vectors come out) or an exported encoder (token vectors come out).

    One session computes on the calling thread alone, so that as many runs as there are cores go on side by side. With
    several `threads` another spreads one run over all of them, for a text that has the machine to itself. It packs the
    weights for itself, 42 MB of MiniLM, and is opened when the first such text comes and `memory_for_wide` agrees. On a
    `device` of its own there is one session, and the runs take turns.
    """

    def __init__(
        self,
        path: Path,
        config: ModelConfig,
        *,
        threads: int,
        memory_for_wide: Callable[[], bool] = lambda: True,
        device: Device = CPU,
    ) -> None:
        map_large_blocks()
        self._device = device
        self._narrow = open_session(path, threads=1, device=device)
        self._wide: onnxruntime.InferenceSession | None = None
        self._wide_lock = threading.Lock()
        self._memory_for_wide = memory_for_wide
        self._path, self._threads = path, 1 if device.is_cuda else threads
        self._inputs = Inputs(self._narrow.get_inputs(), config)
        self._output = choose_output(self._narrow.get_outputs(), config)
        self._config = config
        # A graph made here has done so already: once is enough.
        done = self._output.pooled and path.name.startswith(WHOLE)
        self._normalize = config.normalize and not done
        self._dense = (
            []
            if self._output.pooled
            else [_read_linear(config.folder, layer) for layer in config.dense]
        )

    def run(self, rows: Sequence[Row], *, wide: bool = False) -> Vectors:
        """Return float32 (len(rows), dimensions); rows are padded to the longest of them."""
        ids, mask = padded([row.token_ids for row in rows], self._config.pad_id)
        wide = wide and self._threads > 1 and ids.size >= _WIDE_FROM_TOKENS
        session = (self._opened_wide() if wide else None) or self._narrow
        output = self._run(session, ids, mask, shrink=ids.size > _SHRINK_FROM_TOKENS)
        vectors = output if self._output.pooled else self._head(output, mask, rows)
        return pooling.normalize(vectors) if self._normalize else vectors

    def _head(self, tokens: Vectors, mask: Ids, rows: Sequence[Row]) -> Vectors:
        """Pool token vectors, and put them through the dense layers."""
        config = self._config
        skipped = None
        if not config.include_prompt:
            skipped = np.array([row.prompt_tokens for row in rows], np.int64)
        vectors = pooling.pool(tokens, mask, config.pooling, skipped)
        for linear, layer in zip(self._dense, config.dense, strict=True):
            vectors = pooling.project(
                vectors, linear.weight, linear.bias, layer.activation
            )
        return vectors

    def rest(self) -> None:
        """Give back what the arenas grew to for bulk, tens of megabytes: they shrink at the end of a run."""
        one = np.ones((1, 1), np.int64)
        feed = self._inputs.feed(one, one)
        for session in (self._narrow, self._wide):
            if session is not None:
                # The output's place is a copy's, outside of the arena, of which it would keep a part.
                output = np.array(session.run([self._output.name], feed)[0])
                binding = session.io_binding()
                for name, value in feed.items():
                    binding.bind_cpu_input(name, value)
                binding.bind_output(
                    self._output.name,
                    element_type=output.dtype.type,
                    shape=output.shape,
                    buffer_ptr=output.ctypes.data,
                )
                session.run_with_iobinding(binding, self._shrinking())
        trim_heap()

    def _opened_wide(self) -> onnxruntime.InferenceSession | None:
        with self._wide_lock:
            if self._wide is None and self._memory_for_wide():
                self._wide = open_session(self._path, threads=self._threads)
            return self._wide

    def _run(
        self,
        session: onnxruntime.InferenceSession,
        ids: Ids,
        mask: Ids,
        *,
        shrink: bool,
    ) -> Vectors:
        options = self._shrinking() if shrink else None
        feed = self._inputs.feed(ids, mask)
        output = session.run([self._output.name], feed, options)[0]
        self._output.check(output, ids)
        # A copy: the output lies in the arena, and would keep a part of it for as long as anybody holds it.
        return np.array(output, dtype=np.float32)

    def _shrinking(self) -> onnxruntime.RunOptions:
        """Return options of a run after which the arenas give back what is free."""
        arenas = f"cpu:0;gpu:{self._device.index}" if self._device.is_cuda else "cpu:0"
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arenas)
        return options


def open_session(
    path: Path, *, threads: int, device: Device = CPU
) -> onnxruntime.InferenceSession:
    """Load a graph. Raises ProviderMisconfigured."""
    try:
        cuda = device.index if device.is_cuda else None
        return _open_session(path, threads=threads, cuda=cuda)
    except Unbuildable as error:
        raise ProviderMisconfigured(f"{error}.") from error
