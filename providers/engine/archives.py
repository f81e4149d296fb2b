"""A prepared model as one file, for a machine without torch or without a network: a zip, stored, not compressed.

    archive.json     the format, what the vectors are identified by, and the SHA-256 of manifest.json
    manifest.json    the prepared folder's own, with the SHA-256 of every other file
    ...              those files

Hashes find what was damaged or exchanged on the way. Who wrote the archive they do not prove: compare the fingerprint.
"""

import hashlib
import json
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from providers.command import COMMAND
from providers.engine import files
from providers.engine.devices import CPU, Device
from providers.engine.files import MANIFEST_NAME, Manifest
from providers.engine.folders import valid_name
from providers.engine.inference import revision_of
from providers.engine.machine import usable_cores
from providers.engine.model_config import read_model_config
from providers.engine.prepared import Prepared, is_current
from providers.engine.space import check_space
from providers.engine.verification import open_proved
from providers.engine.weights import Weights
from providers.exceptions import ProviderMisconfigured
from providers.progress import progress

ARCHIVE_NAME = "archive.json"
ARCHIVE_FORMAT = 1
_DESCRIPTION_BYTES = 16_000_000
_CHUNK_BYTES = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One written or read. `fingerprint`: SHA-256 of its manifest, which holds the hashes of all files, as hex."""

    prepared: Prepared
    fingerprint: str
    size_bytes: int


def export_model(weights: Weights, name: str, target: Path) -> Archive:
    """Write a prepared model to `target`, which must not be there yet; every file is checked against its hash.

    Raises ProviderMisconfigured.
    """
    prepared = weights.find(name)
    if prepared is None:
        weights.verified(name)  # raises, with the remedy
        raise ProviderMisconfigured(f"The files of {name} are not understood.")
    if target.exists():
        raise ProviderMisconfigured(f"{target} is there already: remove it first.")
    if not target.parent.is_dir():
        raise ProviderMisconfigured(f"The folder {target.parent} is not there.")
    manifest = (prepared.path / MANIFEST_NAME).read_bytes()
    size = prepared.manifest.size_bytes
    check_space(target.parent, prepared.name, size)
    progress().begin("writing the file", total_bytes=size)
    temporary = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        with (
            files.disk_errors_explained(target.parent),
            zipfile.ZipFile(temporary, "w") as archive,
        ):
            described = json.dumps(_description(prepared, manifest), indent=1)
            archive.writestr(ARCHIVE_NAME, described)
            archive.writestr(MANIFEST_NAME, manifest)
            for file, record in prepared.manifest.files.items():
                with (
                    (prepared.path / file).open("rb") as source,
                    archive.open(file, "w", force_zip64=True) as copy,
                ):
                    found = _copied(source, copy)
                if found != record.sha256:
                    raise ProviderMisconfigured(
                        f"The file {file} of {name} is damaged or altered: run `{COMMAND} download_model {name}`."
                    )
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return Archive(
        prepared=prepared,
        fingerprint=_sha256(manifest),
        size_bytes=target.stat().st_size,
    )


def import_model(weights: Weights, source: Path) -> Archive:
    """Put the model of an archive in its place once all of it is checked: hashes, version, and its vectors here.

    What is there of that model is replaced, or stays as it is where this fails. Raises ProviderMisconfigured.
    """
    if not source.is_file():
        raise ProviderMisconfigured(f"There is no file {source}.")
    with _opened(source) as archive:
        described, manifest, content = _descriptions(archive)
        _check_entries(archive, manifest)
        staging = weights.data_dir / "staging"
        staging.mkdir(parents=True, exist_ok=True)
        check_space(staging, manifest.model, manifest.size_bytes)
        tree = staging / f"import-{uuid4().hex}" / "tree"
        with (
            files.disk_errors_explained(weights.data_dir),
            weights.locked(manifest.model),
        ):
            try:
                _extract(archive, manifest, tree)
                prepared = _checked(manifest, tree, described, weights.device)
                files.sync_tree(tree)
                files.write_atomically(tree / MANIFEST_NAME, content)
                files.replace_folder(tree, weights.folder(manifest.model))
            finally:
                shutil.rmtree(tree.parent, ignore_errors=True)
    return Archive(
        prepared=weights.find(manifest.model) or prepared,
        fingerprint=_sha256(content),
        size_bytes=source.stat().st_size,
    )


def _description(prepared: Prepared, manifest: bytes) -> dict[str, Any]:
    return {
        "format": ARCHIVE_FORMAT,
        "model": prepared.name,
        "revisions": _revisions(prepared),
        "manifest_sha256": _sha256(manifest),
    }


def _revisions(prepared: Prepared) -> dict[str, str]:
    """Return by class what changes whenever its vectors do."""
    return {
        precision: revision_of(prepared, precision) for precision in prepared.precisions
    }


def _descriptions(
    archive: zipfile.ZipFile,
) -> tuple[dict[str, Any], Manifest, bytes]:
    """Return what an archive says of itself. Raises for one of another format, or whose manifest is not its own."""
    described = _json(_small(archive, ARCHIVE_NAME))
    if described.get("format") != ARCHIVE_FORMAT:
        raise _refused("another version of this server wrote it, in another format")
    content = _small(archive, MANIFEST_NAME)
    manifest = files.parse_manifest(content)
    if manifest is None or _sha256(content) != described.get("manifest_sha256"):
        raise _refused("its manifest is damaged or altered")
    if not valid_name(manifest.model) or manifest.model != described.get("model"):
        raise _refused("its model has no valid name")
    if manifest.proof is None or not is_current(manifest.runtime, manifest.files):
        raise _refused(
            "another version of this server prepared it in another way: export it there again, with the version that "
            "runs here"
        )
    return described, manifest, content


def _check_entries(archive: zipfile.ZipFile, manifest: Manifest) -> None:
    """Raise unless the archive holds exactly the manifest's files, whole and plain, below its own folder."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    wanted = {ARCHIVE_NAME, MANIFEST_NAME, *manifest.files}
    if strange := sorted(set(names) - wanted):
        raise _refused(f"{strange[0][:80]!r} in it is none of the model's files")
    if absent := sorted(wanted - set(names)):
        raise _refused(f"{absent[0][:80]} is not in it")
    if len(names) != len(wanted):
        raise _refused("one of its files is in it twice")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.compress_type != zipfile.ZIP_STORED or kind not in (0, stat.S_IFREG):
            raise _refused(f"{entry.filename[:80]} in it is no plain file")
        record = manifest.files.get(entry.filename)
        if record is not None and entry.file_size != record.size_bytes:
            raise _refused(f"{entry.filename[:80]} in it has another size")


def _extract(archive: zipfile.ZipFile, manifest: Manifest, tree: Path) -> None:
    progress().begin("reading the file", total_bytes=manifest.size_bytes)
    for name, record in manifest.files.items():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(name) as source, target.open("wb") as copy:
            found = _copied(source, copy)
        if found != record.sha256:
            raise _refused(f"{name[:80]} in it is damaged or altered")


def _checked(
    manifest: Manifest, tree: Path, described: dict[str, Any], device: Device
) -> Prepared:
    """Return the model in `tree` once it is known to be served here, with the vectors that it had there."""
    progress().begin("checking its vectors")
    prepared = Prepared(
        name=manifest.model,
        path=tree,
        manifest=manifest,
        config=read_model_config(tree),
        device=Device("cuda") if manifest.device == "cuda" else CPU,
    )
    if prepared.problem:
        raise ProviderMisconfigured(prepared.problem)
    if _revisions(prepared) != described.get("revisions"):
        raise _refused(
            "another version of this server prepared it, whose vectors are not those that this one would name so"
        )
    served = replace(prepared, device=device)
    for precision in served.precisions:
        open_proved(served, precision, threads=usable_cores())
    return served


@contextmanager
def _opened(source: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(source) as archive:
            yield archive
    # The second is what an entry raises that is encrypted, or of a method that is unknown.
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        if isinstance(error, ProviderMisconfigured):
            raise
        raise _refused("it is damaged, cut off, or no archive of a model") from error


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise _refused(f"it has no {name}") from None
    if entry.file_size > _DESCRIPTION_BYTES:
        raise _refused(f"its {name} is too large")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise _refused(f"its {name} is no plain file")
    return archive.read(entry)


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _refused(f"its {ARCHIVE_NAME} is not understood")
    return found


def _copied(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy to the end and return the SHA-256 of what was copied, as hex."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
        progress().advance(len(chunk))
    return digest.hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _refused(reason: str) -> ProviderMisconfigured:
    return ProviderMisconfigured(f"The file cannot be imported: {reason}.")
