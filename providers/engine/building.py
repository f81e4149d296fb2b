"""Build a model's graphs for this server, and keep the fast one only where it keeps what its class promises."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from providers.engine import torch_export
from providers.engine.described import TOKENIZER_FILE, refusing
from providers.engine.devices import CPU, Device
from providers.engine.files import files_below
from providers.engine.graph import FAST_GRAPH_FILE
from providers.engine.graph import build as native
from providers.engine.graph.half import build_half
from providers.engine.graph.samples import calibration_rows, runs_of
from providers.engine.graph.settings import Unbuildable
from providers.engine.graph.static import build_static
from providers.engine.graph.weight_only import build_weight_only
from providers.engine.machine import trim_heap, usable_cores
from providers.engine.model_config import ModelConfig
from providers.engine.onnx_runtime import OnnxRuntime
from providers.engine.onnx_signature import Inputs
from providers.engine.repository import (
    EXPORTED_FILE,
    HALF,
    HAVE_GRAPHS,
    parameters_beside,
    rewritten_file,
    served_file,
)
from providers.engine.runtime import FAST_COSINE, FAST_MEAN_COSINE, Row, rows_of
from providers.engine.tokenizer import ModelTokenizer, TokenIds
from providers.engine.verification import check_texts
from providers.exceptions import ProviderMisconfigured
from providers.progress import progress

_CALIBRATION_SEED, _CHECK_SEED = 1, 2
_NAMED_CHARACTERS = 80
# Texts and tokens of a run whose time is taken, and how often. Smaller models run in microseconds either way.
_TIMED_SHAPES = ((1, 16), (4, 64))
_TIMED_RUNS = 5
_TIMED_FROM_BYTES = 4_000_000
log = structlog.get_logger(__name__)

build_graph = refusing(native.build_graph)
native_fast_graph = native.build_fast_graph


@dataclass(frozen=True, slots=True)
class Built:
    """How a model is served. `note`: why it needs torch, one phrase; empty if it does not."""

    runtime: str
    note: str = ""

    def without_export(self, folder: Path, reason: str) -> "Built":
        """Remove what was exported: the model is served by torch. `reason`: what is wrong with the export."""
        graph = folder / EXPORTED_FILE
        for file in graph.parent.glob(f"{graph.stem}*"):
            file.unlink()
        log.warning("export_refused", folder=folder.name, reason=reason)
        return Built("torch", f"its export differs: {reason}")


def build(
    folder: Path, config: ModelConfig, runtime: str, device: Device = CPU
) -> Built:
    """Make the graphs of a model whose files lie in `folder`; `runtime` is `repository.choose_runtime`'s.

    What torch would have to run is exported, where that can be done. Raises ProviderMisconfigured.
    """
    built = Built(runtime)
    if runtime == "graph":
        progress().begin("building its graph")
        build_graph(folder, config)
    elif runtime == "torch":
        progress().begin("exporting its graph")
        reason = torch_export.export(folder, config)
        built = Built("torch", reason) if reason else Built("exported")
        if reason:
            log.warning("model_needs_torch", folder=folder.name, reason=reason)
    if built.runtime in HAVE_GRAPHS:
        progress().begin("building its fast graph")
        tokenizer = ModelTokenizer.from_file(
            folder / TOKENIZER_FILE, lower_case=config.lower_case
        )
        build_fast(folder, config, tokenizer, built.runtime, device)
        trim_heap()
    return built


def build_fast(
    folder: Path,
    config: ModelConfig,
    tokenizer: ModelTokenizer,
    runtime: str,
    device: Device = CPU,
) -> Path | None:
    """Write a fast graph beside the exact one and return it: of the first method that is good enough, if any is.

    Every text counts. The log names the one that was served worst: it is one of those that ship here, or random.
    """
    exact = served_file(runtime, set(files_below(folder)))
    gate: _Gate | None = None
    ways = _ways(folder, exact, config, tokenizer, runtime, device)
    for name, write in ways:
        fast = folder / name
        try:
            write()
            gate = gate or _Gate(folder / exact, config, tokenizer, device)
            reason = gate.refusal(fast)
        except (Unbuildable, ProviderMisconfigured) as error:
            reason = {"reason": str(error)}
        if reason is None:
            return fast
        log.warning("fast_graph_refused", folder=folder.name, file=name, **reason)
        for file in (name, *parameters_beside(name)):  # a tiny model has no data file
            (folder / file).unlink(missing_ok=True)
    return None


def _ways(
    folder: Path,
    exact: str,
    config: ModelConfig,
    tokenizer: ModelTokenizer,
    runtime: str,
    device: Device,
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the file and what writes it, the fastest first."""
    if device.is_cuda:
        half = rewritten_file(exact, HALF)
        yield half, lambda: build_half(folder / exact, folder / half)
        return
    rows = _rows(config, tokenizer, _CALIBRATION_SEED)
    threads = usable_cores()
    if runtime == "graph":
        yield (
            FAST_GRAPH_FILE,
            lambda: native_fast_graph(folder, config, rows, threads=threads),
        )
    static = rewritten_file(exact, "int8-static")
    yield (
        static,
        lambda: build_static(
            folder / exact,
            folder / static,
            rows,
            config.pad_id,
            threads=threads,
            feeding=lambda entries: Inputs(entries, config).feed,
        ),
    )
    weights = rewritten_file(exact, "int8-weights")
    yield weights, lambda: build_weight_only(folder / exact, folder / weights)


class _Gate:
    """Compares fast graphs with the exact one, whose vectors are computed once."""

    def __init__(
        self,
        exact: Path,
        config: ModelConfig,
        tokenizer: ModelTokenizer,
        device: Device,
    ) -> None:
        self._exact, self._config, self._tokenizer = exact, config, tokenizer
        self._rows, self._device = _checked_rows(config, tokenizer), device
        self._expected = _vectors(self._opened(exact), self._rows)

    def refusal(self, fast: Path) -> dict[str, object] | None:
        """Return what is wrong with a fast graph, as fields of a log line; None: it is kept."""
        runtime = self._opened(fast)
        found = _vectors(runtime, self._rows)
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(self._expected, axis=1)
        cosines = (found * self._expected).sum(axis=1) / np.maximum(lengths, 1e-12)
        if not (cosines.mean() >= FAST_MEAN_COSINE and cosines.min() >= FAST_COSINE):
            worst = self._rows[int(cosines.argmin())]
            return {
                "mean": round(float(cosines.mean()), 4),
                "least": round(float(cosines.min()), 4),
                "texts": len(cosines),
                "below": int((cosines < FAST_COSINE).sum()),
                "worst_text": self._tokenizer.decode(worst.token_ids.tolist())[
                    :_NAMED_CHARACTERS
                ],
            }
        if _size(fast) < _TIMED_FROM_BYTES:
            return None
        exact = self._opened(self._exact)
        speeds = [speed_ratio(exact, runtime, shape) for shape in _TIMED_SHAPES]
        log.info("fast_graph_timed", file=fast.name, times_exact=speeds)
        return {"times_exact": speeds} if min(speeds) < 1 else None

    def _opened(self, graph: Path) -> OnnxRuntime:
        return OnnxRuntime(graph, self._config, threads=1, device=self._device)


def speed_ratio(exact: OnnxRuntime, fast: OnnxRuntime, shape: tuple[int, int]) -> float:
    """Return how many times as fast `fast` is on one core for (texts, tokens): runs in turn, medians."""
    texts, tokens = shape
    rows = [Row(np.ones(tokens, np.int64), "")] * texts
    seconds: tuple[list[float], list[float]] = ([], [])
    for run in range(1 + _TIMED_RUNS):
        for runtime, taken in zip((exact, fast), seconds, strict=True):
            started = time.perf_counter()
            runtime.run(rows)
            if run:  # the first reads the parameters from the disk
                taken.append(time.perf_counter() - started)
    return round(float(np.median(seconds[0]) / np.median(seconds[1])), 2)


def _rows(config: ModelConfig, tokenizer: ModelTokenizer, seed: int) -> list[TokenIds]:
    known = config.encoder.get("vocab_size")
    return calibration_rows(tokenizer, config.max_tokens, seed=seed, vocabulary=known)


def _checked_rows(config: ModelConfig, tokenizer: ModelTokenizer) -> list[Row]:
    """Return what fast graphs are checked with, by length; all texts of the proof are among it."""
    rows = [Row(ids, "") for ids in _rows(config, tokenizer, _CHECK_SEED)]
    for prompt, text in check_texts(config, tokenizer):
        rows += rows_of(tokenizer, [text], prompt, pooled=config.include_prompt)
    return sorted(rows, key=len)


def _vectors(runtime: OnnxRuntime, rows: Sequence[Row]) -> NDArray[np.float32]:
    return np.concatenate([runtime.run(run) for run in runs_of(rows)])


def _size(graph: Path) -> int:
    files = (graph, *(graph.with_name(name) for name in parameters_beside(graph.name)))
    return sum(file.stat().st_size for file in files if file.exists())
