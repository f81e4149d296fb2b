"""Pickled weights made into safetensors, once, when a model is prepared, in a process of its own.

torch reads them with `weights_only=True`: tensors and plain containers, and no code.

    python -m providers.engine.pickled FOLDER
"""

import importlib
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from providers.engine.child import run_child
from providers.engine.described import refused
from providers.engine.files import files_below
from providers.engine.graph.checkpoint import SAFETENSORS_FILE, SAFETENSORS_INDEX

PICKLED_FILE, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_TIMEOUT_SECONDS = 3600.0


def pickled_files(folder: Path) -> list[str]:
    """Return the pickled weights of a folder: one file, or those that its index names. Raises ProviderMisconfigured."""
    index = folder / PICKLED_INDEX
    if not index.is_file():
        return [PICKLED_FILE]
    try:
        shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise refused(f"its {PICKLED_INDEX} has no weight_map") from error
    if not shards or any(
        "/" in str(shard) or str(shard)[:1] == "." for shard in shards
    ):
        raise refused(f"its {PICKLED_INDEX} names what is no file beside it")
    return shards


def convert(folder: Path) -> None:
    """Put safetensors in place of what is pickled in a model's folder, and below it. Raises ProviderMisconfigured."""
    if not any(_places(folder)):
        return
    finished = run_child(__name__, folder, timeout_seconds=_TIMEOUT_SECONDS)
    if not finished.succeeded:
        raise refused(f"its pickled weights cannot be converted: {finished.reason}")


def _places(folder: Path) -> Iterator[Path]:
    """Yield the folders that have pickled weights and no safetensors."""
    for place in {(folder / name).parent for name in files_below(folder)}:
        has = {path.name for path in place.iterdir()}
        if not has & {SAFETENSORS_FILE, SAFETENSORS_INDEX} and any(
            name in has for name in pickled_files(place)
        ):
            yield place


def _convert(place: Path) -> None:
    torch: Any = importlib.import_module("torch")
    save_file: Any = importlib.import_module("safetensors.torch").save_file

    files = [place / name for name in pickled_files(place)]
    tensors: dict[str, Any] = {}
    for file in files:
        for name, value in _read(torch, file).items():
            if torch.is_tensor(value):
                # Each its own memory: some share theirs, and safetensors refuses that.
                tensors[str(name)] = value.detach().clone().contiguous()
    if not tensors:
        raise ValueError(f"{files[0].name} holds no tensors")
    save_file(tensors, place / SAFETENSORS_FILE, metadata={"format": "pt"})
    for file in (*files, place / PICKLED_INDEX):
        file.unlink(missing_ok=True)


def _read(torch: Any, file: Path) -> dict[str, Any]:
    try:
        found = _load(torch, file)
    except pickle.UnpicklingError as error:
        # torch's own words advise to run it.
        raise ValueError(f"{file.name} holds more than tensors, or none") from error
    if not isinstance(found, dict):
        raise TypeError(f"{file.name} holds no parameters by name")
    inner = found.get("state_dict")
    return inner if isinstance(inner, dict) else found


def _load(torch: Any, file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # of before torch 1.6
        return torch.load(file, map_location="cpu", weights_only=True)


def _main(folder: Path) -> None:
    for place in list(_places(folder)):
        _convert(place)


if __name__ == "__main__":
    try:
        _main(Path(sys.argv[1]))
    except Exception as error:  # the parent reads the last line
        sys.exit(" ".join(str(error).split())[:200] or type(error).__name__)
