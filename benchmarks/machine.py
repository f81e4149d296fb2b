"""What the figures were measured on."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.contestants import LITELLM, PEERS
from benchmarks.preparation import cores

# What int8 speed hangs on, best first.
INT8_FLAGS = ("amx_int8", "avx512_vnni", "avx_vnni", "asimddp")
INFINITY_PACKAGES = (
    *("infinity_emb", "optimum-onnx", "onnxruntime", "torch"),
    "sentence-transformers",
)
FP32_FLAGS = ("avx512f", "avx2", "asimd")


def describe_machine() -> dict[str, str]:
    """Return the processor's class, the system and the versions that matter."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    flags = {
        word
        for line in text.splitlines()
        if "flags" in line.lower()
        for word in line.split()
    }
    names = [
        line.partition(":")[2].strip()
        for line in text.splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": str(cores()),
        "fp32 by": _first(FP32_FLAGS, flags),
        "int8 by": _first(INT8_FLAGS, flags),
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(
            f"{name} {version(name)}"
            for name in ("onnxruntime", "torch", "sentence-transformers", "gunicorn")
        ),
        "peers": ", ".join(
            versions
            for versions in (
                _versions(PEERS, INFINITY_PACKAGES),
                _versions(LITELLM, ("litellm",)),
            )
            if versions
        ),
    }


def _first(names: tuple[str, ...], flags: set[str]) -> str:
    return next((name for name in names if name in flags), "unknown")


def _versions(folder: Path, names: tuple[str, ...]) -> str:
    """Return the versions of packages in another virtual environment."""
    script = f"from importlib.metadata import version\nprint(*[f'{{n}} {{version(n)}}' for n in {names!r}], sep=', ')"
    python = folder / "bin" / "python"
    if not python.exists():
        return ""
    done = subprocess.run(  # noqa: S603
        [str(python), "-c", script], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
