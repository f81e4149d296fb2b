import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.exceptions import ImproperlyConfigured

from embeddings_project import secrets
from embeddings_project.secrets import read_or_create_secret


def test_secret_is_made_once_and_kept_private(tmp_path):
    path = tmp_path / "data" / "api_key"
    first = read_or_create_secret(path, prefix="sk-")
    assert first.startswith("sk-")
    assert len(first) > 40
    assert read_or_create_secret(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_processes_that_start_at_once_agree(tmp_path):
    path = tmp_path / "key"
    with ThreadPoolExecutor(16) as pool:
        made = set(pool.map(lambda _: read_or_create_secret(path), range(64)))
    assert len(made) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["key"]


def test_folder_that_cannot_hold_a_secret_is_named_with_its_variable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ImproperlyConfigured, match=r"DATA_DIR .*file/data/key: Not a"):
        read_or_create_secret(tmp_path / "file" / "data" / "key")


def test_command_that_only_looks_makes_a_secret_up(tmp_path, monkeypatch):
    monkeypatch.setattr(secrets, "_kept", True)
    kept = read_or_create_secret(tmp_path / "kept")
    secrets.keep_nothing()
    assert read_or_create_secret(tmp_path / "kept") == kept
    assert read_or_create_secret(tmp_path / "data" / "new", prefix="sk-")
    assert not (tmp_path / "data").exists()
