"""What must lie ready before anything is measured: weights, graphs, and a data folder for each start."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.contestants import (
    BEFORE,
    FASTAPI,
    LITELLM,
    MINILM,
    PEERS,
    PROVIDERS,
    REPOSITORY,
    TOOLS,
)
from benchmarks.models import MODELS, build_model

SCRATCH = TOOLS / "bench"
RUNS = SCRATCH / "runs"
FOLDERS = SCRATCH / "models"
GRAPHS = SCRATCH / "infinity"
LINK_BYTES = 1 << 20  # smaller files are copied, since the server may write to them
# Where each state of this server is prepared: its folder, its python.
STATES = {
    "ours": (REPOSITORY, Path(sys.executable)),
    "before": (BEFORE, BEFORE / ".venv" / "bin" / "python"),
}


def prepare_minilm(*states: str) -> Path:
    """Prepare the default model with each server's own command; return the folder of the model's files."""
    for state in states:
        _manage(state, "migrate", "--verbosity", "0")
        for provider in PROVIDERS.values():
            output = _manage(state, "download_model", f"{provider}:{MINILM}")
            if state == "ours" and provider == PROVIDERS["exact"]:
                folder = Path(output.strip().rpartition("  ")[2])
        _manage(state, "download_model")
    if not (folder / "model.safetensors").exists():
        raise FileNotFoundError(f"{folder} holds no weights that peers can read")
    return folder


def prepare_model(name: str, minilm: Path, *states: str) -> Path:
    """Build a local folder model and prepare it with each server's own command; return the folder."""
    folder = FOLDERS / name
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        build_model(MODELS[name], minilm, folder)
        (folder / "ready").touch()
    for state in states:
        done = prepared(state) / f"{name}.ready"
        if not done.exists():
            for provider in PROVIDERS.values():
                _manage(state, "download_model", f"{provider}:{name}")
            done.touch()
    return folder


def prepared(state: str) -> Path:
    """Return the data folder in which a state's weights are prepared."""
    return SCRATCH / f"data-{state}"


def model_paths() -> dict[str, str]:
    """Return the setting that names the folder models which are built."""
    folders = [str(FOLDERS / name) for name in MODELS if (FOLDERS / name).exists()]
    return {"EMBEDDINGS_MODEL_PATHS": ",".join(folders)} if folders else {}


def fresh_data_folder(name: str, state: str = "ours") -> Path:
    """Return a data folder in which nothing but the weights is prepared."""
    folder = RUNS / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(prepared(state), folder, copy_function=_link_or_copy)
    return folder


def there(what: str) -> bool:
    """Return whether `before`, `peers` or `litellm` is installed."""
    wanted = {"before": (BEFORE,), "peers": (PEERS, FASTAPI), "litellm": (LITELLM,)}
    return all((folder / "ready").exists() for folder in wanted[what])


def prepare_infinity(name: str, model_folder: Path) -> Path:
    """Make the graphs that Infinity's ONNX engine reads; return the folder of folders."""
    target = GRAPHS / name
    if not (target / "ready").exists():
        script = REPOSITORY / "benchmarks" / "peers" / "prepare_infinity.py"
        python = PEERS / "bin" / "python"
        subprocess.run(  # noqa: S603
            [str(python), str(script), str(model_folder), str(target)],
            check=True,
        )
    return target


def cores() -> int:
    """Return how many cores this process may use."""
    return len(core_numbers()) or os.cpu_count() or 1


def core_numbers() -> list[int]:
    """Return the numbers of the cores that this process may use, none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def say(what: str) -> None:
    """Print how far the run is."""
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


def _manage(state: str, *command: str) -> str:
    """Run one of a server's own commands on its prepared data folder and return what it says."""
    folder, python = STATES[state]
    return subprocess.run(  # noqa: S603
        [str(python), "manage.py", *command],
        cwd=folder,
        env={**os.environ, "DATA_DIR": str(prepared(state)), **model_paths()},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def _link_or_copy(source: str, target: str) -> str:
    if Path(source).stat().st_size < LINK_BYTES or "sqlite" in source:
        return str(shutil.copy2(source, target))
    os.link(source, target)
    return target
