"""The product as a package: built from copies of the tracked files, installed in an environment of its own."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.server import REPOSITORY

APPS = ("embeddings_project", "embeddings", "media_jobs", "providers")
SOURCES = (
    *APPS,
    "templates",
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "manage.py",
    "README.md",
    "LICENSE",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An environment with the wheel. Dependencies come from the tests' own, after it in the path."""

    folder: Path
    wheel: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def command(self) -> str:
        return str(self.folder / "bin" / "embeddings-server")

    @property
    def packages(self) -> Path:
        return packages_of(self.python)

    def run(
        self, *arguments: str, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run `embeddings-server` as a user without settings, in a folder that has nothing to do with it."""
        return subprocess.run(
            [self.command, *arguments],
            cwd=self.folder,
            env={"HOME": str(self.folder / "home"), **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )


def install(folder: Path) -> Installed:
    source = copy_sources(folder / "source")
    wheel = build("wheel", source, folder / "wheel")
    place = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    installed = Installed(folder=place, wheel=wheel)
    shared = sysconfig.get_path(
        "purelib"
    )  # a path in a .pth: links of editable packages in it do not count
    (installed.packages / "shared.pth").write_text(f"{shared}\n")
    pip = [sys.executable, "-m", "pip", "--python", installed.python, "--quiet"]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", wheel], check=True)
    return installed


def copy_sources(target: Path) -> Path:
    target.mkdir(parents=True)
    for name in SOURCES:
        path = REPOSITORY / name
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, target / name, ignore=ignored)
        else:
            shutil.copy(path, target / name)
    return target


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a `wheel` or an `sdist` as any tool does, by setuptools' hooks, and return its file."""
    target.mkdir(parents=True)
    hook = f"from setuptools.build_meta import build_{kind} as build; build({str(target)!r})"
    subprocess.run(
        [sys.executable, "-c", hook], cwd=source, check=True, capture_output=True
    )
    return next(target.iterdir())


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def unpack(sdist: Path, target: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(target, filter="data")
    return next(target.iterdir())


def packages_of(python: str) -> Path:
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run(
        [python, "-c", ask], check=True, capture_output=True, text=True
    )
    return Path(done.stdout.strip())
