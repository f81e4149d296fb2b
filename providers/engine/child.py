"""A module of this package run in a process of its own: what it imports and loads ends with that process."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Finished:
    """How it ended. `reason`: the last line that it wrote of itself, or what ended it; empty where it succeeded."""

    reason: str

    @property
    def succeeded(self) -> bool:
        """Whether it did what it was asked to do."""
        return not self.reason


def run_child(
    module: str, *arguments: Path, timeout_seconds: float, stdin: bytes = b""
) -> Finished:
    """Run `python -m module arguments` and wait."""
    try:
        finished = subprocess.run(  # noqa: S603 - a module of ours
            [sys.executable, "-m", module, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=Path(__file__).parents[2],
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finished(f"it took more than {timeout_seconds:.0f} seconds")
    if finished.returncode == 0:
        return Finished("")
    lines = finished.stderr.decode(errors="replace").strip().splitlines()
    ended = f"it ended with {finished.returncode}"
    return Finished((lines[-1] if lines else ended)[:_REASON_CHARACTERS])
