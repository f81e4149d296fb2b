"""A model that lies ready on disk: what it is served from, how, and what it takes."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from providers.base import Precision
from providers.command import COMMAND
from providers.engine.described import refused
from providers.engine.devices import CPU, Device
from providers.engine.files import Manifest
from providers.engine.graph import GRAPH_VERSION
from providers.engine.local_files import DESCRIBING
from providers.engine.machine import has_torch
from providers.engine.model_config import ModelConfig
from providers.engine.repository import (
    EXPORT_VERSION,
    HAVE_GRAPHS,
    NEEDS_TORCH,
    fast_files,
    is_made_here,
    parameters_beside,
    served_file,
)
from providers.engine.tokenizer import ModelTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A complete model on disk.

    `runtime`: static (a table), graph (built here), exported (by torch), onnx (as shipped) or torch.
    """

    name: str
    path: Path
    manifest: Manifest
    config: ModelConfig
    device: Device = CPU

    @property
    def runtime(self) -> str:
        """Which runtime serves it."""
        return self.manifest.runtime

    @property
    def revision(self) -> str:
        """What changes when the vectors may: the weights' own revision, and that of the graph built from them."""
        made = {"graph": f".{GRAPH_VERSION}", "exported": f".e{EXPORT_VERSION}"}
        return self.manifest.revision + made.get(self.runtime, "")

    @property
    def onnx_file(self) -> Path:
        """The ONNX file to run."""
        return self.path / served_file(self.runtime, self.manifest.files)

    @property
    def fast_file(self) -> Path | None:
        """The quantised ONNX file, if the model has one that is good enough."""
        found = self._fast
        return self.path / found[0] if found else None

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The classes in which it is served."""
        return ("exact", "fast") if self.fast_file else ("exact",)

    @property
    def problem(self) -> str | None:
        """Why it cannot run in this installation, or None."""
        lacks_torch = self.runtime == "torch" and not has_torch()
        return refused(NEEDS_TORCH).message if lacks_torch else None

    def method(self, precision: Precision) -> str:
        """Return how vectors are computed where `precision` is asked for: exactly, where there is no fast graph."""
        found = self._fast if precision == "fast" else None
        return found[1] if found else "fp32"

    def tokenizer(self) -> ModelTokenizer:
        """Read the model's own tokenizer. Raises ProviderMisconfigured."""
        return _read_tokenizer(self.path, self.config)

    def weights_bytes(self, *, fast: bool) -> int:
        """Return about what the loaded weights take in memory: their size on disk, or more if loading widens them."""
        if self.config.static is not None:
            return self.config.static.memory_bytes(self.path)
        sizes = {
            Path(file): record.size_bytes
            for file, record in self.manifest.files.items()
        }
        quick = self.fast_file if fast else None
        if quick or self.runtime in ("graph", "exported"):
            graph = (quick or self.onnx_file).relative_to(self.path).as_posix()
            own = {Path(name) for name in (graph, *parameters_beside(graph))}
            return sum(size for file, size in sizes.items() if file in own)
        # Of another runtime's model, all that is prepared and does not describe it is weights, whatever its name.
        stored = sum(
            size
            for file, size in sizes.items()
            if file.suffix not in DESCRIBING and not is_made_here(file.as_posix())
        )
        widened = self.runtime == "torch" and self.config.halved
        return stored * 2 if widened else stored

    @property
    def _fast(self) -> tuple[str, str] | None:
        """The fast graph and its method."""
        names = self.manifest.files
        if self.runtime not in HAVE_GRAPHS:
            return None
        of_exact = fast_files(served_file(self.runtime, names), self.device).items()
        return next((found for found in of_exact if found[0] in names), None)


def not_prepared(name: str) -> str:
    """Return the sentence that says so, with the remedy."""
    return f"The weights of {name} are not on this machine: run `{COMMAND} download_model {name}`."


def is_current(runtime: str, names: Collection[str]) -> bool:
    """Whether a model of these files has the graph that this version of the server runs."""
    try:
        return runtime not in HAVE_GRAPHS or bool(served_file(runtime, names))
    except StopIteration:
        return False


def _read_tokenizer(folder: Path, config: ModelConfig) -> ModelTokenizer:
    static = config.static
    return ModelTokenizer.from_file(
        folder / config.tokenizer_file,
        lower_case=config.lower_case,
        special_tokens=static is None,
        drops_unknown=static is not None and static.drops_unknown,
    )
