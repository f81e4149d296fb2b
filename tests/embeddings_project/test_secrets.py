import base64
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from embeddings_project import secrets
from embeddings_project.secrets import base64_secret, read_or_create_secret


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


def test_signing_secret_is_32_bytes_in_plain_base64(tmp_path):
    made = read_or_create_secret(tmp_path / "key", prefix="whsec_", make=base64_secret)
    key = base64.b64decode(made.removeprefix("whsec_"), validate=True)
    assert (made[:6], len(key)) == ("whsec_", 32)


def test_command_that_only_looks_makes_a_secret_up(tmp_path, monkeypatch):
    monkeypatch.setattr(secrets, "_kept", True)
    kept = read_or_create_secret(tmp_path / "kept")
    secrets.keep_nothing()
    assert read_or_create_secret(tmp_path / "kept") == kept
    assert read_or_create_secret(tmp_path / "data" / "new", prefix="sk-")
    assert not (tmp_path / "data").exists()


def test_console_session_of_the_former_key_goes_on(settings, admin_user):
    client = Client()
    client.force_login(admin_user)
    former, settings.SECRET_KEY = settings.SECRET_KEY, "b" * 40
    settings.SECRET_KEY_FALLBACKS = [former]
    assert client.get("/admin/").status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert client.get("/admin/").status_code == 200, "it is signed with the new key"


def test_console_session_of_a_key_that_is_gone_ends(settings, admin_user):
    client = Client()
    client.force_login(admin_user)
    settings.SECRET_KEY = "b" * 40
    assert client.get("/admin/").status_code == 302
