"""What must lie ready before anything is measured: weights, graphs, and a data folder for each start."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.contestants import FASTAPI, MODEL, PEERS, REPOSITORY

SCRATCH = REPOSITORY / ".tools" / "bench"
PREPARED = SCRATCH / "data"
RUNS = SCRATCH / "runs"
INFINITY_GRAPHS = SCRATCH / "infinity"
LINK_BYTES = 1 << 20  # smaller files are copied, since the server may write to them


def prepare_own_model() -> Path:
    """Prepare this server's weights with its own command; return the folder of the model's files."""
    for command in (["migrate", "--verbosity", "0"], ["download_model"]):
        _manage(*command)
    _manage("download_model", f"onnx:{MODEL}")
    output = _manage("download_model", f"huggingface:{MODEL}")
    folder = Path(output.strip().rpartition("  ")[2])
    if not (folder / "model.safetensors").exists():
        raise FileNotFoundError(f"{folder} holds no weights that peers can read")
    return folder


def fresh_data_folder(name: str) -> Path:
    """Return a data folder in which nothing but the weights is prepared."""
    folder = RUNS / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PREPARED, folder, copy_function=_link_or_copy)
    return folder


def peers_are_there() -> bool:
    """Return whether the peers are installed."""
    return (PEERS / "ready").exists() and (FASTAPI / "ready").exists()


def prepare_infinity(model_folder: Path) -> Path:
    """Make the graphs that Infinity's ONNX engine reads; return the folder of folders."""
    if not (INFINITY_GRAPHS / "ready").exists():
        script = REPOSITORY / "benchmarks" / "peers" / "prepare_infinity.py"
        python = PEERS / "bin" / "python"
        subprocess.run(  # noqa: S603
            [str(python), str(script), str(model_folder), str(INFINITY_GRAPHS)],
            check=True,
        )
    return INFINITY_GRAPHS


def cores() -> int:
    """Return how many cores this process may use."""
    return (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )


def _manage(*command: str) -> str:
    """Run one of this server's own commands on the prepared data folder and return what it says."""
    return subprocess.run(  # noqa: S603
        [sys.executable, "manage.py", *command],
        cwd=REPOSITORY,
        env={**os.environ, "DATA_DIR": str(PREPARED)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def _link_or_copy(source: str, target: str) -> str:
    if Path(source).stat().st_size < LINK_BYTES or "sqlite" in source:
        return str(shutil.copy2(source, target))
    os.link(source, target)
    return target
