"""SIGHUP: the server takes up its new configuration, and no client notices but by that."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import psutil
import pytest
import requests

from tests.waiting import poll

FIRST, SECOND = "the-first-key-0123456789", "the-second-key-0123456789"
RELOAD_SECONDS = 120.0


@pytest.fixture(params=["0", "1"], ids=["alone", "with-a-worker"])
def server(request, launch, tmp_path):
    """A server whose key stands in a file."""
    key = tmp_path / "key"
    key.write_text(FIRST)
    running = launch(
        SINGLE_USER_API_KEY_FILE=str(key),
        MEDIA_WORKERS=request.param,
        AUTH_GUESSES_PER_MINUTE="0",
    )
    running.key_file = key
    return running.wait_until_ready()


def embed(server, key):
    body = {"input": "over and over", "model": "all-MiniLM-L6-v2"}
    headers = {"X-API-KEY": key, "Connection": "close"}
    return requests.post(
        f"{server.api}/embeddings", json=body, headers=headers, timeout=60
    ).status_code


def says(server, event):
    return any(line.get("event") == event for line in server.log_lines())


def test_reload_takes_up_a_new_configuration_without_a_gap(server):
    done = Event()
    before = server.workers()

    def ask():
        answers = []
        while not done.is_set():
            answers.append({embed(server, FIRST), embed(server, SECOND)})
        return answers

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            poll(lambda: embed(server, FIRST) == 200, what="served")
            server.key_file.write_text(SECOND)
            server.process.send_signal(signal.SIGHUP)
            poll(
                lambda: says(server, "reloaded"),
                seconds=RELOAD_SECONDS,
                what="reloaded",
            )
        finally:
            done.set()
        # One key counts at any time, and no connection was refused or cut.
        answers = [answer for one in asking for answer in one.result()]
    assert set().union(*answers) == {200, 401}
    assert (embed(server, FIRST), embed(server, SECOND)) == (401, 200)
    assert not any(psutil.pid_exists(one.pid) for one in before)
    assert server.stop(signal.SIGTERM) == 0
    assert server.members() == []


@pytest.mark.sqlite_only("which processes live and end")
def test_wrong_configuration_changes_nothing(server):
    server.key_file.write_text("short")
    server.process.send_signal(signal.SIGHUP)
    poll(lambda: says(server, "reload_refused"), seconds=RELOAD_SECONDS, what="refused")
    assert embed(server, FIRST) == 200
    server.key_file.write_text(SECOND)
    server.process.send_signal(signal.SIGHUP)
    poll(lambda: says(server, "reloaded"), seconds=RELOAD_SECONDS, what="reloaded")
    assert embed(server, SECOND) == 200


@pytest.mark.sqlite_only("which processes live and end")
def test_stop_in_the_middle_of_a_reload_ends_everything(server):
    os.kill(server.process.pid, signal.SIGHUP)
    poll(lambda: says(server, "reloading"), seconds=RELOAD_SECONDS, what="reloading")
    assert server.stop(signal.SIGTERM) in (0, -signal.SIGTERM)
    poll(lambda: not server.members(), seconds=60, what="no process left")


@pytest.mark.sqlite_only("which processes live and end")
def test_reload_keeps_the_folder_that_processes_share_and_the_stop_removes_it(launch):
    server = launch().wait_until_ready()
    socket = (server.data_dir / "engine.socket").read_text()
    for times in (1, 2):
        server.process.send_signal(signal.SIGHUP)
        poll(
            lambda n=times: (
                sum(line.get("event") == "reloaded" for line in server.log_lines()) == n
            ),
            seconds=RELOAD_SECONDS,
            what="reloaded",
        )
    assert (server.data_dir / "engine.socket").read_text() == socket
    assert len(server.embed(["one"])[0]) == 384
    server.stop()
    assert not Path(socket).parent.exists()
