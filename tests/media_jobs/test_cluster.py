"""Who a worker is from start to start, and which processes it may end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from media_jobs.cluster import supervisor
from media_jobs.cluster.cluster import Cluster
from media_jobs.cluster.locks import LivenessLock
from media_jobs.cluster.notifier_process import (
    HUNG_SECONDS,
    RESTART_SECONDS,
    NotifierProcess,
)
from media_jobs.cluster.supervisor import succeed
from media_jobs.services.claims import worker_id
from tests.waiting import poll


@pytest.fixture
def boot(tmp_path, monkeypatch):
    """Return a function that boots the machine."""
    path = tmp_path / "boot_id"
    monkeypatch.setattr(supervisor, "BOOT_ID", path)

    def boot(text="first"):
        path.write_text(f"{text}\n")

    boot()
    return boot


def start(folder):
    """Take the folder's lock as a supervisor does at its start; return its name, and whom it succeeds."""
    worker_id.cache_clear()
    with LivenessLock(folder / "supervisor.lock") as lock:
        assert lock.take()
        return worker_id(), succeed(lock)


def test_worker_succeeds_the_one_before_it_in_its_folder(boot, tmp_path):
    first, before = start(tmp_path / "data")
    assert before is None
    second, before = start(tmp_path / "data")
    assert before == first
    assert second != first
    assert start(tmp_path / "data")[1] == second


def test_worker_of_a_copied_folder_succeeds_nobody(boot, tmp_path):
    start(tmp_path / "data")
    copy = tmp_path / "copy"
    copy.mkdir()
    text = (tmp_path / "data" / "supervisor.lock").read_text()
    (copy / "supervisor.lock").write_text(text)
    copied, before = start(copy)
    assert before is None
    assert start(copy)[1] == copied


def test_worker_on_a_machine_that_was_booted_since_succeeds_nobody(boot, tmp_path):
    """It may be a copy of the machine, whose pids mean nothing here."""
    start(tmp_path / "data")
    boot("second")
    assert start(tmp_path / "data")[1] is None


def test_worker_where_the_kernel_names_no_boot_succeeds_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "BOOT_ID", tmp_path / "absent")
    start(tmp_path / "data")
    assert start(tmp_path / "data")[1] is None


def test_lock_file_of_an_older_version_succeeds_nobody(boot, tmp_path):
    (tmp_path / "supervisor.lock").write_text("4711")
    assert start(tmp_path)[1] is None


@pytest.fixture
def stopped_process():
    """A process in a group of its own that stands still, as `kill -STOP` leaves it."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    os.kill(child.pid, signal.SIGSTOP)
    poll(lambda: is_stopped(child), what="the process stopped")
    yield child
    child.kill()
    child.wait()


def is_stopped(process):
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED


def cluster_of(tmp_path, group):
    lock = LivenessLock(tmp_path / "lock")
    cluster = Cluster(lock, own_lock=lock)
    cluster._pid = group
    return cluster


def test_process_of_the_cluster_that_stands_still_is_ended(tmp_path, stopped_process):
    cluster_of(tmp_path, stopped_process.pid).end_process(stopped_process.pid)
    assert stopped_process.wait(20) == -signal.SIGKILL


def test_process_of_another_group_is_never_ended(tmp_path, stopped_process):
    """The number may have been given to somebody else's process since."""
    cluster_of(tmp_path, os.getpgrp()).end_process(stopped_process.pid)
    assert is_stopped(stopped_process)
    cluster_of(tmp_path, None).end_process(stopped_process.pid)
    assert stopped_process.poll() is None


class Notices(NotifierProcess):
    """Start `sleep` instead of a process that sends."""

    def __init__(self):
        self.now, self.started = 1000.0, []
        super().__init__(own_lock=LivenessLock(Path(os.devnull)))
        self.clock = lambda: self.now

    def _start(self):
        self._beat.value = self.clock()
        self.started.append(subprocess.Popen(["sleep", "60"]))
        self._pid = self.started[-1].pid

    def later(self, seconds, *, beats=True):
        self.now += seconds
        if beats:
            self._beat.value = self.now
        self.look_after()
        return len(self.started)


@pytest.fixture
def notices():
    notices = Notices()
    yield notices
    notices.kill()
    for process in notices.started:
        process.returncode = 0  # it was waited for


def test_process_that_sends_is_started_again_when_it_dies_and_not_at_once(notices):
    assert notices.later(0) == 1
    os.kill(notices.started[0].pid, signal.SIGKILL)
    os.waitid(os.P_PID, notices.started[0].pid, os.WEXITED | os.WNOWAIT)
    assert notices.later(RESTART_SECONDS - 1) == 1
    assert notices.later(1) == 2


def test_process_that_sends_is_replaced_when_it_hangs(notices):
    notices.later(0)
    os.kill(notices.started[0].pid, signal.SIGSTOP)
    assert notices.later(HUNG_SECONDS, beats=False) == 1
    assert notices.later(1, beats=False) == 2
    assert not psutil.pid_exists(notices.started[0].pid)


def test_process_that_sends_and_looks_is_left_alone(notices):
    for _ in range(10):
        assert notices.later(HUNG_SECONDS - 1) == 1
