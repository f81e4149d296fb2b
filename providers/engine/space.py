"""The disk that a model takes, said and checked before anything large is fetched or copied."""

from collections.abc import Iterable
from pathlib import Path
from shutil import disk_usage

import structlog

from providers.engine.model_config import ModelConfig
from providers.exceptions import ProviderMisconfigured

# Of each parameter, a graph that is built here holds a float32, and its int8 copy a byte.
_GRAPH_BYTES = 4 + 1
_HALVES = ("float16", "bfloat16")
_GIGABYTE = 1e9

log = structlog.get_logger(__name__)


def disk_bytes(stored_bytes: int, parameters: int) -> int:
    """Return what a model takes on disk whose graph is built here: its own files stay beside it."""
    return stored_bytes + parameters * _GRAPH_BYTES


def needed_bytes(config: ModelConfig, runtime: str, stored_bytes: int) -> int:
    """Return about what a model's weights, `stored_bytes` as they come, take with what is made of them."""
    if runtime != "graph":
        return stored_bytes
    kind = config.encoder.get("dtype", config.encoder.get("torch_dtype"))
    return disk_bytes(stored_bytes, stored_bytes // (2 if kind in _HALVES else 4))


def check_space(
    folder: Path, name: str, needed: int, weights: Iterable[str] = ()
) -> None:
    """Raise ProviderMisconfigured where the disk of `folder` is too full for a model that takes `needed` bytes.

    What an earlier call fetched of `weights`, in whole or in part, is there already.
    """
    whole = [folder / file for file in weights if (folder / file).is_file()]
    here = sum(file.stat().st_size for file in [*whole, *folder.rglob("*.incomplete")])
    free = disk_usage(folder).free + here
    log.info("model_space", model=name, needed_bytes=needed, free_bytes=free)
    if needed > free:
        raise ProviderMisconfigured(
            f"{name} takes about {needed / _GIGABYTE:.1f} GB of disk, and {free / _GIGABYTE:.1f} GB are free in "
            f"{folder}: free some space, or set DATA_DIR to a folder on a larger disk. Then run the command again; "
            "what came whole is kept."
        )
