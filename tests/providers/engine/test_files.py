"""Files that exist whole or not at all."""

import errno
import json
import os
from pathlib import Path

import pytest

from providers.engine.files import (
    MANIFEST_NAME,
    CorruptError,
    Manifest,
    disk_errors_explained,
    files_below,
    read_manifest,
    record_of,
    replace_folder,
    verify,
    write_atomically,
    write_manifest,
)
from providers.exceptions import ProviderMisconfigured


@pytest.fixture
def folder(tmp_path):
    """A folder of two files, and their records."""
    (tmp_path / "part").mkdir()
    (tmp_path / "weights").write_bytes(b"12345")
    (tmp_path / "part" / "config").write_bytes(b"{}")
    return tmp_path


@pytest.fixture
def records(folder):
    return {name: record_of(folder / name) for name in ("weights", "part/config")}


def manifest_of(records):
    return Manifest(
        model="owner/name",
        source="hub",
        revision="r1",
        runtime="onnx",
        files=records,
    )


def change(folder, **changes):
    """Change what the manifest on the disk says."""
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


@pytest.mark.parametrize("spoil", ["cut off", "changed", "gone", "a folder"])
def test_file_that_is_not_what_was_recorded_is_named(folder, records, spoil):
    verify(folder, records)
    path = folder / "weights"
    path.unlink()
    if spoil == "a folder":
        path.mkdir()
    elif spoil != "gone":
        path.write_bytes(b"1234" if spoil == "cut off" else b"12346")
    with pytest.raises(CorruptError, match=r"^weights$"):
        verify(folder, records)


def test_manifest_is_read_as_it_was_written(folder, records):
    write_manifest(folder, manifest_of(records))
    assert read_manifest(folder) == manifest_of(records)


def test_manifest_of_another_format_is_none(folder, records):
    write_manifest(folder, manifest_of(records))
    change(folder, format="another")
    assert read_manifest(folder) is None


@pytest.mark.parametrize("name", ["/etc/passwd", "../weights", "part/../../weights"])
def test_manifest_names_no_file_outside_its_folder(folder, records, name):
    write_manifest(folder, manifest_of(records))
    entry = {"sha256": "0" * 64, "size_bytes": 1}
    change(folder, files={name: entry, "weights": entry})
    manifest = read_manifest(folder)
    assert manifest is not None
    assert list(manifest.files) == ["weights"]


def test_manifest_comes_to_the_disk_after_all_it_vouches_for(
    folder, records, monkeypatch
):
    synced = []
    fsync = os.fsync

    def note(descriptor):
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_manifest(folder, manifest_of(records))
    names = [path.removeprefix(f"{folder}/") for path in synced]
    assert {"weights", "part/config", "part"} <= {*names[: names.index(str(folder))]}
    assert names[-2].startswith(f".{MANIFEST_NAME}")
    assert names[-1] == str(folder)


def test_hidden_files_and_the_manifest_are_no_part_of_a_folder(folder, records):
    write_manifest(folder, manifest_of(records))
    (folder / ".lock").write_text("")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "blob").write_text("")
    assert list(files_below(folder)) == ["part/config", "weights"]


def test_write_that_fails_leaves_the_old_file_and_nothing_else(folder, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "full")

    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        write_atomically(folder / "weights", b"new")
    assert (folder / "weights").read_bytes() == b"12345"
    assert sorted(folder.rglob("*")) == before


def test_replaced_folder_leaves_nothing_of_the_old_one(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "is full"),
        (errno.EDQUOT, "is full"),
        (errno.EACCES, "cannot be written"),
        (errno.EROFS, "cannot be written"),
    ],
)
def test_disk_that_takes_nothing_is_explained(tmp_path, number, said):
    with (
        pytest.raises(ProviderMisconfigured, match=said),
        disk_errors_explained(tmp_path),
    ):
        raise OSError(number, "no")


def test_other_errors_of_the_disk_are_passed_on(tmp_path):
    with pytest.raises(OSError, match="odd"), disk_errors_explained(tmp_path):
        raise OSError(errno.EIO, "odd")
