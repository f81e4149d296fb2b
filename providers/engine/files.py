"""Files that either exist whole or not at all: hashes, manifests, locks, atomic replacement. Standard library only."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from providers.exceptions import ProviderMisconfigured
from providers.progress import progress

MANIFEST_NAME = "manifest.json"
MANIFEST_FORMAT = 1
LOCK_LOOK_SECONDS = 0.2


class CorruptError(Exception):
    """A file is absent or is not the one that was recorded. `str()` names the file, relative to its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """What one file must be."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How a model was checked, and what it gives for `texts` (without a prompt).

    `verified`: reference (against sentence-transformers) or self. `vectors`: by class (exact, fast) one for each text,
    float32 little-endian in base64.
    """

    verified: Literal["reference", "self"]
    texts: tuple[str, ...]
    vectors: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a prepared folder holds. Written last, so a folder with a readable manifest was complete once.

    `proof` is None where an older version of this server prepared it. `note`: why it needs torch, empty if it does not.
    `device`: the kind of device, cpu or cuda, that its fast class is for.
    """

    model: str
    source: str
    revision: str
    runtime: str
    files: Mapping[str, FileRecord]
    proof: Proof | None = None
    note: str = ""
    device: str = "cpu"

    @property
    def size_bytes(self) -> int:
        """Size of all recorded files together."""
        return sum(record.size_bytes for record in self.files.values())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 as lower-case hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def record_of(path: Path) -> FileRecord:
    """Measure one file."""
    return FileRecord(sha256=sha256_of(path), size_bytes=path.stat().st_size)


def verify(folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Compare files with their records. Raises CorruptError with the name of the first that differs."""
    for name, record in files.items():
        path = folder / name
        # The size is looked at first: it is free, and catches what was cut off.
        if (
            not path.is_file()
            or path.stat().st_size != record.size_bytes
            or sha256_of(path) != record.sha256
        ):
            raise CorruptError(name)


def read_manifest(folder: Path) -> Manifest | None:
    """Return the folder's manifest, or None if there is no whole one of this format."""
    try:
        return parse_manifest((folder / MANIFEST_NAME).read_bytes())
    except OSError:
        return None


def parse_manifest(content: bytes) -> Manifest | None:
    """Return the manifest that a file holds, or None if it is no whole one of this format."""
    try:
        raw: dict[str, Any] = json.loads(content)
        if raw["format"] != MANIFEST_FORMAT:
            return None
        return Manifest(
            model=str(raw["model"]),
            source=str(raw["source"]),
            revision=str(raw["revision"]),
            runtime=str(raw["runtime"]),
            files={
                name: FileRecord(
                    sha256=str(entry["sha256"]), size_bytes=int(entry["size_bytes"])
                )
                for name, entry in raw["files"].items()
                if _inside(name)
            },
            proof=_read_proof(raw.get("proof")),
            note=str(raw.get("note", "")),
            device=str(raw.get("device", "cpu")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest durably: every other file reaches the disk before it does."""
    sync_tree(folder)
    content = {
        "format": MANIFEST_FORMAT,
        "model": manifest.model,
        "source": manifest.source,
        "revision": manifest.revision,
        "runtime": manifest.runtime,
        "note": manifest.note,
        "device": manifest.device,
        "files": {
            name: {"sha256": record.sha256, "size_bytes": record.size_bytes}
            for name, record in sorted(manifest.files.items())
        },
        "proof": asdict(manifest.proof) if manifest.proof else None,
    }
    write_atomically(folder / MANIFEST_NAME, json.dumps(content, indent=1).encode())


def files_below(folder: Path) -> Iterator[str]:
    """Yield the relative names of all plain files below `folder`, sorted; hidden ones and the manifest left out."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if (
            path.is_file()
            and relative.name != MANIFEST_NAME
            and not any(p.startswith(".") for p in relative.parts)
        ):
            yield relative.as_posix()


def sync_tree(folder: Path) -> None:
    """Flush a folder with everything below it to the disk."""
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            _sync(path)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        temporary.write_bytes(content)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def replace_folder(new: Path, target: Path) -> None:
    """Put `new` in the place of `target`; both lie on one filesystem.

    Readers see the old folder, nothing for a moment, or the new one. Open files of the old one stay valid.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    discarded = new.with_name(f"discarded-{uuid4().hex}")
    if target.exists():
        target.replace(discarded)
    new.replace(target)
    _sync(target.parent)
    shutil.rmtree(discarded, ignore_errors=True)


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy files by relative name, making folders as needed."""
    for name in names:
        destination = target / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, destination)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock against other processes and threads; the kernel frees it if the holder dies.

    Raises ActionCancelled where somebody cancels this thread's action while it waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress().begin("waiting for another that does the same")
                time.sleep(LOCK_LOOK_SECONDS)
            else:
                break
        yield


@contextmanager
def disk_errors_explained(folder: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"The disk that holds {folder} is full: free some space and run the command again."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            message = f"The folder {folder} cannot be written: check its owner and permissions."
        else:
            raise
        raise ProviderMisconfigured(message) from error


def _read_proof(raw: Mapping[str, Any] | None) -> Proof | None:
    if raw is None:
        return None
    return Proof(
        verified="reference" if raw["verified"] == "reference" else "self",
        texts=tuple(str(text) for text in raw["texts"]),
        vectors={
            str(precision): tuple(str(row) for row in rows)
            for precision, rows in raw["vectors"].items()
        },
    )


def _inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in Path(name).parts


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
