"""An embedded installation written to one file while it is served, and put back: docs/deployment.md, Backup."""

import contextlib
import json
import os
import resource
import sqlite3
import stat
import zipfile
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User
from django.db import connections

from embeddings.models import ProcessBeat
from embeddings_project import backups
from embeddings_project.backups import BackupProblem, back_up, restore
from providers.state.server_folder import locked
from tests.e2e.server import manage

pytestmark = pytest.mark.sqlite_only("names its own databases")

SECRETS = {
    "secret_key": "a-secret-of-these-tests-of-some-length",
    "api_key": "sk-of-these-tests-0123456789",
    "webhook_secret": "whsec_b2YgdGhlc2UgdGVzdHMgMDEyMzQ1Njc4OQ==",
}


@pytest.fixture
def stored(installation, tmp_path):
    """Store a user and secrets; return where a backup may be written."""
    User.objects.create_user("ann")
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(value)
    folder = tmp_path / "backups"
    folder.mkdir()
    return folder / "backup.zip"


def users(data_dir):
    with contextlib.closing(sqlite3.connect(data_dir / "db.sqlite3")) as file:
        return [name for (name,) in file.execute("SELECT username FROM auth_user")]


def contents(folder):
    return {path.name for path in folder.iterdir()}


def test_one_moment_is_written_while_others_write_and_restored_elsewhere(
    stored, tmp_path
):
    with contextlib.closing(sqlite3.connect(tmp_path / "db.sqlite3")) as writer:
        writer.execute("BEGIN IMMEDIATE")  # a server in the middle of a change
        writer.execute("UPDATE auth_user SET username = 'half'")
        back_up(stored)
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert contents(stored.parent) == {"backup.zip"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = manage(elsewhere, "restore", str(stored))
    assert done.returncode == 0, done.stderr
    assert users(elsewhere) == ["ann"]
    for name, value in SECRETS.items():
        assert (elsewhere / name).read_text() == value
        assert stat.S_IMODE((elsewhere / name).stat().st_mode) == 0o600
    assert contents(elsewhere) == {"db.sqlite3", *SECRETS}


def test_restore_replaces_only_by_force_and_what_the_log_held_is_gone(stored, tmp_path):
    back_up(stored)
    User.objects.create_user("bob")
    connections["default"].close()
    with pytest.raises(BackupProblem, match=r"is there already\. --force"):
        restore(stored, force=False)
    assert users(tmp_path) == ["ann", "bob"]
    restore(stored, force=True)
    assert users(tmp_path) == ["ann"]


@pytest.mark.parametrize("damage", ["cut", "changed", "other", "absent", "strange"])
def test_file_that_is_not_whole_is_refused_and_changes_nothing(
    stored, tmp_path, damage
):
    back_up(stored)
    content = stored.read_bytes()
    if damage == "cut":
        stored.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        stored.write_bytes(content.replace(b"ann", b"eve"))
    elif damage == "other":
        stored.write_text("no backup")
    elif damage == "absent":
        stored.unlink()
    else:
        with zipfile.ZipFile(stored, "a") as archive:
            described = json.loads(archive.read("manifest.json"))
            described["sha256"]["../outside"] = "0"
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr("manifest.json", json.dumps(described))
    with pytest.raises(BackupProblem, match=r"no backup|damaged|cannot be read"):
        restore(stored, force=True)
    assert users(tmp_path) == ["ann"]


def test_backup_of_a_newer_release_is_refused(stored, tmp_path):
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('embeddings', '9999_later', '2030-01-01')"
        )
    back_up(stored)
    with pytest.raises(BackupProblem, match="A newer release wrote this backup"):
        restore(stored, force=True)


def test_full_disk_leaves_nothing(stored, tmp_path):
    size = (tmp_path / "db.sqlite3").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
    try:
        with pytest.raises(BackupProblem, match="cannot be"):
            back_up(stored)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert contents(stored.parent) == set()


def test_log_of_a_broken_database_is_not_taken_for_the_restored_one(stored, tmp_path):
    back_up(stored)
    connections["default"].close()
    database, log = tmp_path / "db.sqlite3", tmp_path / "db.sqlite3-wal"
    with contextlib.closing(sqlite3.connect(database)) as file:
        file.execute("UPDATE auth_user SET username = 'eve'")
        file.commit()
        content = log.read_bytes()
    database.write_bytes(b"no database" * 1000)
    log.write_bytes(content)
    restore(stored, force=True)
    assert users(tmp_path) == ["ann"]


def test_what_a_killed_command_left_is_removed_and_what_another_uses_is_not(stored):
    dead = stored.parent / f"{backups.SCRATCH}dead"
    dead.mkdir()
    (dead / "db.sqlite3").write_text("half")
    living = stored.parent / f"{backups.SCRATCH}living"
    living.mkdir()
    lock = locked(living)
    back_up(stored)
    assert contents(stored.parent) == {"backup.zip", living.name}
    os.close(lock)


def test_there_must_be_something_to_write_and_a_new_name(stored, tmp_path):
    stored.write_text("an older one")
    with pytest.raises(BackupProblem, match="is there already: give a new name"):
        back_up(stored)
    assert stored.read_text() == "an older one"
    with pytest.raises(BackupProblem, match=r"The folder .* is not there"):
        back_up(tmp_path / "absent" / "backup.zip")


@pytest.fixture
def served(stored):
    """A process uses the installation."""
    now = datetime.now(UTC)
    return ProcessBeat.objects.create(
        host="node-1", pid=42, role="web", started_at=now, beat_at=now
    )


def test_what_runs_is_no_part_of_a_backup(stored, served):
    back_up(stored)
    served.delete()
    for _ in range(2):  # nothing in the restored database says that it is used
        restore(stored, force=True)


def test_restore_waits_for_what_uses_the_installation(stored, served):
    back_up(stored)
    with pytest.raises(BackupProblem, match=r"process 42 \(web\) on node-1"):
        restore(stored, force=True)


def test_postgresql_is_left_to_its_own_tools(installation, tmp_path):
    engine = {"ENGINE": "django.db.backends.postgresql", "NAME": "name"}
    file, usual = connections["default"], connections.settings["default"]
    connections.settings["default"] = {**usual, **engine}
    connections["default"] = connections.create_connection("default")
    with pytest.raises(BackupProblem, match="pg_dump"):
        back_up(tmp_path / "backup.zip")
    with pytest.raises(BackupProblem, match="pg_restore"):
        restore(tmp_path / "backup.zip", force=True)
    connections["default"], connections.settings["default"] = file, usual
