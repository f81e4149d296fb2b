"""An embedded installation as one file: a zip, stored, not compressed.

    db.sqlite3       the database at one moment
    secret_key …     the secrets that the server made, where the environment has none
    manifest.json    the release, and the SHA-256 of all these

Models are not in it. Both directions write beside the target and rename: who is killed leaves nothing half.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from django.conf import settings
from django.db import connection
from django.utils import timezone

from embeddings.services.processes import RUNTIME_MODELS, what_runs
from embeddings_project import __version__
from embeddings_project.releases import is_newer
from providers.state.server_folder import locked, remove_left_over

FORMAT = 1
MANIFEST = "manifest.json"
DATABASE = "db.sqlite3"
SECRETS = ("secret_key", "api_key", "webhook_secret")
SCRATCH = ".backup-"
LOGS = ("-wal", "-shm")  # SQLite's own files beside a database
CHUNK_BYTES = 2**20


class BackupProblem(Exception):
    """Why there is no backup, or nothing was restored, with the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a file holds. `made_at` is in ISO 8601."""

    release: str
    made_at: str
    names: tuple[str, ...]
    size_bytes: int


def back_up(file: Path) -> Backup:
    """Write this installation to `file`, which must not be there yet, while it may be served. Raises BackupProblem."""
    database = _database("pg_dump --format=custom, and keep the secrets of DATA_DIR")
    if file.exists():
        raise BackupProblem(f"{file} is there already: give a new name.")
    if not file.parent.is_dir():
        raise BackupProblem(f"The folder {file.parent} is not there.")
    if not database.is_file():
        raise BackupProblem(f"There is no database at {database} yet.")
    with _explained(file.parent), _scratch(file.parent) as folder:
        _copy_database(database, folder / DATABASE)
        sources = {DATABASE: folder / DATABASE}
        sources |= {
            name: path
            for name in SECRETS
            if (path := settings.DATA_DIR / name).is_file()
        }
        backup = _write(folder / "backup", sources)
        (folder / "backup").replace(file)
    return backup


def restore(file: Path, *, force: bool) -> Backup:
    """Put what `file` holds in place of this installation, which nobody serves. Raises BackupProblem.

    `force`: over one that is there.
    """
    database = _database("pg_restore --clean --if-exists")
    data_dir = Path(settings.DATA_DIR)
    targets = {DATABASE: database, **{name: data_dir / name for name in SECRETS}}
    if problem := what_runs(data_dir):
        raise BackupProblem(problem)
    there = [path for path in targets.values() if path.exists()]
    if there and not force:
        raise BackupProblem(
            f"{there[0]} is there already. --force puts the backup in place of it; what it holds is lost."
        )
    with _explained(data_dir), contextlib.ExitStack() as stack:
        beside = {}
        for name, path in targets.items():  # on one disk with what is replaced
            path.parent.mkdir(parents=True, exist_ok=True)
            beside[name] = stack.enter_context(_scratch(path.parent)) / name
        backup = _extract(file, beside)
        _check_release(beside[DATABASE])
        if database.exists():
            _settle(database)
        for name in backup.names:
            beside[name].replace(targets[name])
    return backup


def _database(instead: str) -> Path:
    if connection.vendor != "sqlite":
        raise BackupProblem(
            f"The data lie in the PostgreSQL that DATABASE_URL names: use {instead}; see docs/deployment.md."
        )
    return Path(connection.settings_dict["NAME"])


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """Make a private folder on the disk of what will lie beside it, and remove those that killed commands left."""
    for older in parent.glob(f"{SCRATCH}*"):
        remove_left_over(older)
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=parent) as name:
        lock = locked(Path(name))
        try:
            yield Path(name)
        finally:
            os.close(lock)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupProblem(
            f"{folder} cannot be written: {error.strerror or error}. Nothing was changed."
        ) from error
    except sqlite3.Error as error:
        raise BackupProblem(f"The database cannot be copied: {error}.") from error


def _copy_database(source: Path, target: Path) -> None:
    """Copy one moment of a database that others may write to, but not what runs, as one file without a log."""
    with (
        contextlib.closing(
            sqlite3.connect(f"file:{quote(str(source))}?mode=rw", uri=True)
        ) as here,
        contextlib.closing(sqlite3.connect(target)) as there,
    ):
        here.backup(there)
        there.execute("PRAGMA journal_mode=DELETE")
        tables = {name for (name,) in there.execute("SELECT name FROM sqlite_schema")}
        for table in {model._meta.db_table for model in RUNTIME_MODELS} & tables:
            there.execute(f'DELETE FROM "{table}"')  # noqa: S608  (names from the models)
        there.commit()


def _write(target: Path, sources: dict[str, Path]) -> Backup:
    hashes = {}
    made_at = timezone.now().isoformat(timespec="seconds")
    target.touch(mode=0o600)
    with target.open("r+b") as file, zipfile.ZipFile(file, "w") as archive:
        for name, path in sources.items():
            with (
                path.open("rb") as source,
                archive.open(name, "w", force_zip64=True) as entry,
            ):
                hashes[name] = _copied(source, entry)
        described = {
            "format": FORMAT,
            "release": __version__,
            "made_at": made_at,
            "sha256": hashes,
        }
        archive.writestr(MANIFEST, json.dumps(described, indent=1))
        archive.close()
        file.flush()
        os.fsync(file.fileno())
    return Backup(
        release=__version__,
        made_at=made_at,
        names=tuple(hashes),
        size_bytes=target.stat().st_size,
    )


def _extract(source: Path, targets: dict[str, Path]) -> Backup:
    """Write each file of a backup to its path, and check it. Raises BackupProblem."""
    try:
        with _opened(source) as archive:
            described = _described(archive)
            for name, sha256 in described["sha256"].items():
                path = targets[name]
                path.touch(mode=0o600)
                with archive.open(name) as entry, path.open("r+b") as file:
                    if _copied(entry, file) != sha256:
                        raise BackupProblem(
                            f"{source} is damaged: {name} is not what was written."
                        )
                    file.flush()
                    os.fsync(file.fileno())
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise BackupProblem(f"{source} is no backup, or not a whole one.") from error
    return Backup(
        release=described["release"],
        made_at=described["made_at"],
        names=tuple(described["sha256"]),
        size_bytes=source.stat().st_size,
    )


def _opened(source: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except OSError as error:
        reason = error.strerror or error
        raise BackupProblem(f"{source} cannot be read: {reason}.") from error


def _described(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Return the manifest. Raises BackupProblem, KeyError, ValueError or TypeError."""
    described: dict[str, Any] = json.loads(archive.read(MANIFEST))
    if described["format"] != FORMAT:
        raise BackupProblem(
            f"Release {described['release']} wrote this backup, which this one cannot read."
        )
    names = set(described["sha256"])
    if DATABASE not in names or names - {DATABASE, *SECRETS}:
        raise ValueError("other files than a backup has")
    return described


def _check_release(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as file:
        applied = file.execute("SELECT app, name FROM django_migrations").fetchall()
    if is_newer(applied):
        raise BackupProblem(
            f"A newer release wrote this backup. This is {__version__}: install that one."
        )


def _settle(database: Path) -> None:
    """Have the database that is replaced need no log any more: the new one must not find it."""
    with (
        contextlib.suppress(sqlite3.Error),  # broken, perhaps why it is replaced
        contextlib.closing(sqlite3.connect(database)) as file,
    ):
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in LOGS:
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _copied(source: IO[bytes], target: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()
