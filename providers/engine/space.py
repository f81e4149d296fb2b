"""The disk that a model takes, said and checked before anything large is fetched or copied."""

from collections.abc import Iterable
from pathlib import Path
from shutil import disk_usage

import structlog

from providers.engine.model_config import ModelConfig
from providers.exceptions import ProviderMisconfigured

# Of the float32 parameters: what a fast graph takes of the disk, and what preparation takes of memory without and with
# an export.
_FAST_SHARE = 0.35
_MEMORY_SHARE, _EXPORT_SHARE = 1.5, 2.0
_MEMORY_BYTES = 1_000_000_000
_FLOAT32_BYTES = 4
_GIGABYTE = 1e9

log = structlog.get_logger(__name__)


def disk_bytes(stored_bytes: int, parameters: int) -> int:
    """Return what a model takes on disk whose graph is made here: its own files stay beside it."""
    return stored_bytes + int(parameters * _FLOAT32_BYTES * (1 + _FAST_SHARE))


def made_bytes(config: ModelConfig, runtime: str, stored_bytes: int) -> int:
    """Return about what the graphs take on disk that are made of weights, which take `stored_bytes`."""
    if runtime == "static":
        return 0
    if runtime == "onnx":
        return int(stored_bytes * _FAST_SHARE)
    return int(_widened(config, stored_bytes) * (1 + _FAST_SHARE))


def needed_bytes(config: ModelConfig, runtime: str, stored_bytes: int) -> int:
    """Return about what a model's weights, `stored_bytes` as they come, take with what is made of them."""
    return stored_bytes + made_bytes(config, runtime, stored_bytes)


def preparing_bytes(config: ModelConfig, runtime: str, stored_bytes: int) -> int:
    """Return about what memory the preparation takes."""
    share = _EXPORT_SHARE if runtime == "torch" else _MEMORY_SHARE
    return int(_widened(config, stored_bytes) * share) + _MEMORY_BYTES


def _widened(config: ModelConfig, stored_bytes: int) -> int:
    return stored_bytes * (2 if config.halved else 1)


def check_space(
    folder: Path,
    name: str,
    needed: int,
    weights: Iterable[str] = (),
    **more: int,
) -> None:
    """Raise ProviderMisconfigured where the disk of `folder` is too full for a model that takes `needed` bytes.

    What an earlier call fetched of `weights`, in whole or in part, is there already. `more` goes into the log.
    """
    whole = [folder / file for file in weights if (folder / file).is_file()]
    here = sum(file.stat().st_size for file in [*whole, *folder.rglob("*.incomplete")])
    free = disk_usage(folder).free + here
    log.info("model_space", model=name, needed_bytes=needed, free_bytes=free, **more)
    if needed > free:
        raise ProviderMisconfigured(
            f"{name} takes about {needed / _GIGABYTE:.1f} GB of disk, and {free / _GIGABYTE:.1f} GB are free in "
            f"{folder}: free some space, or set DATA_DIR to a folder on a larger disk. Then run the command again; "
            "what came whole is kept."
        )
