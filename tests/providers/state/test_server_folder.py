"""The folder that the processes of a server share: private, and gone with the last of them."""

import multiprocessing
import os

import pytest

from providers.state import server_folder as module
from providers.state.server_folder import ServerFolder, server_folder


@pytest.fixture(autouse=True)
def outside_a_server(monkeypatch):
    monkeypatch.setattr(module, "_of_server", [])


def killed(folder):
    """Leave a folder as the end of its processes does, and return its path."""
    os.close(folder.lock)
    return folder.path


def test_processes_of_a_server_know_its_folder_and_no_others_do(tmp_path):
    assert server_folder() is None
    folder = ServerFolder(tmp_path)
    assert server_folder() == folder.path
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(server_folder) == folder.path
    folder.close()
    assert server_folder() is None
    assert not folder.path.exists()


def test_folder_is_its_users_alone(tmp_path):
    folder = ServerFolder(tmp_path)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.close()


def test_what_killed_servers_left_is_removed_at_the_next_start(tmp_path):
    left = [killed(ServerFolder(tmp_path)) for _ in range(2)]
    folder = ServerFolder(tmp_path)
    assert not any(path.exists() for path in left)
    folder.close()


def test_folder_of_a_server_that_runs_is_left_alone(tmp_path):
    running = ServerFolder(tmp_path)
    (running.path / "file").touch()
    folder = ServerFolder(tmp_path)
    folder.close()
    assert (running.path / "file").exists()
    running.close()


def test_folder_of_another_data_folder_is_left_alone(tmp_path):
    left = killed(ServerFolder(tmp_path / "one"))
    folder = ServerFolder(tmp_path / "another")
    assert left.exists()
    folder.close()
    ServerFolder(tmp_path / "one").close()
    assert not left.exists()
