"""What is taken of an operator's own model folder, and by what it is known again."""

from pathlib import Path

from providers.engine import files
from providers.engine.described import refused
from providers.engine.graph.checkpoint import SAFETENSORS_FILE
from providers.engine.model_config import read_model_config
from providers.engine.modules import read_modules
from providers.engine.repository import (
    choose_runtime,
    data_files,
    onnx_file,
    weight_files,
)

# What lies beside the weights.
DESCRIBING = frozenset({".json", ".txt", ".model"})


def loadable_files(folder: Path) -> list[str]:
    """Return what serving needs of an operator's folder; code, pickles and other weights are not taken along."""
    names = set(files.files_below(folder))
    taken = {name for name in names if Path(name).suffix in DESCRIBING}
    taken |= {f"{module.path}/{SAFETENSORS_FILE}" for module in read_modules(folder)}
    config = read_model_config(folder)
    runtime = choose_runtime(config, names)
    if runtime == "onnx" and (graph := onnx_file(names)):
        needed = {graph, *data_files(folder / graph, graph)}
    else:
        needed = set(weight_files(config, folder, names))
    if absent := sorted(needed - names):
        raise refused(f"{absent[0][:80]} is absent")
    return sorted((taken & names) | needed)


def origin_of(folder: Path) -> str:
    """Return a fingerprint of an operator's folder: names, sizes and times of change."""
    stats = [(name, (folder / name).stat()) for name in loadable_files(folder)]
    listing = "\n".join(
        f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats
    )
    return files.sha256_of_text(listing)[:12]
