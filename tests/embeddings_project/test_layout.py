import errno
import sys
import tempfile
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from embeddings_project import layout
from embeddings_project.__main__ import only_looks


@pytest.fixture
def as_package(monkeypatch):
    monkeypatch.setattr(layout, "CLONE", None)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", "/home/bob")


def test_clone_keeps_its_data_beside_its_code():
    assert layout.data_dir({"XDG_DATA_HOME": "/x"}) == layout.PACKAGE.parent / "var"


@pytest.mark.parametrize(
    ("values", "folder"),
    [
        ({}, "/home/bob/.local/share/embeddings-server"),
        ({"XDG_DATA_HOME": "/data"}, "/data/embeddings-server"),
        ({"XDG_DATA_HOME": "data"}, "/home/bob/.local/share/embeddings-server"),
        ({"DATA_DIR": "/srv", "XDG_DATA_HOME": "/data"}, "/srv"),
        ({"DATA_DIR": "~/here"}, "/home/bob/here"),
        ({"DATA_DIR": " "}, "/home/bob/.local/share/embeddings-server"),
    ],
)
def test_package_keeps_its_data_in_the_user_s_data_folder(as_package, values, folder):
    assert layout.data_dir(values) == Path(folder)


def test_package_keeps_its_data_where_apple_says(as_package, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    folder = Path("/home/bob/Library/Application Support/embeddings-server")
    assert layout.data_dir({}) == folder


def test_user_without_a_home_is_asked_for_a_data_folder(as_package, monkeypatch):
    def no_home():
        raise RuntimeError

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ImproperlyConfigured, match="DATA_DIR must be set"):
        layout.data_dir({})
    assert layout.data_dir({"DATA_DIR": "/srv"}) == Path("/srv")


def test_environment_wins_over_the_env_file(as_package, tmp_path):
    (tmp_path / ".env").write_text("PORT=1\nHOST=::1\n")
    values = layout.with_env_file({"DATA_DIR": str(tmp_path), "PORT": "2"})
    assert (values["PORT"], values["HOST"]) == ("2", "::1")


def test_env_file_that_is_no_text_is_named(as_package, tmp_path):
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImproperlyConfigured, match=r"\.env cannot be read: it is not"):
        layout.with_env_file({"DATA_DIR": str(tmp_path)})


def test_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    layout.require_writable(tmp_path / "new" / "data")
    assert not list((tmp_path / "new" / "data").iterdir())


def test_folder_that_cannot_be_written_is_named_with_its_variable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImproperlyConfigured, match=r"DATA_DIR .*/file/data: Not a dir"):
        layout.require_writable(tmp_path / "file" / "data")


def test_full_disk_is_no_reason_to_refuse(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)
    layout.require_writable(tmp_path)


@pytest.mark.parametrize(
    ("line", "looks"),
    [
        ("", True),
        ("help", True),
        ("help serve", True),
        ("check --deploy", True),
        ("serve --help", True),
        ("serve -h", True),
        ("serve", False),
        ("search check", False),
        ("create_api_key help", False),
    ],
)
def test_commands_that_only_look_are_known(line, looks):
    assert only_looks(line.split()) is looks
