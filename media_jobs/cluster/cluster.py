"""One django-q2 cluster as a child process, in a session of its own.

A session of its own, since the cluster hangs when all of its processes get SIGTERM at once, as a terminal or a service
manager sends it; only its main process may get it. The processes share a lock, which is held as
long as one of them lives.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time

import structlog
from django.db import connections

from media_jobs.cluster.locks import LivenessLock

NICENESS = 10
POLL_SECONDS = 0.05
PR_SET_PDEATHSIG = 1

log = structlog.get_logger(__name__)


class Cluster:
    """Start, watch and stop the processes. `lock` is held by them, not by this process; `own_lock` the other way."""

    def __init__(self, lock: LivenessLock, *, own_lock: LivenessLock) -> None:
        self._lock = lock
        self._own_lock = own_lock
        self._pid: int | None = None

    def start(self) -> None:
        """Fork the cluster. Raises RuntimeError while another one lives."""
        if not self._lock.take():
            raise RuntimeError("Another cluster lives.")
        connections.close_all()  # a connection must not be shared over a fork
        sys.stdout.flush()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            self._own_lock.close()
            _be_cluster()
        self._lock.write(str(self._pid))
        self._lock.close()
        log.info("worker_cluster_started", pid=self._pid)

    def lives(self) -> bool:
        """Whether the cluster's main process runs."""
        if self._pid is None:
            return False
        done, _ = os.waitpid(self._pid, os.WNOHANG)
        if done:
            log.warning("worker_cluster_died", pid=self._pid)
            kill_group(self._pid)
            self._pid = None
        return self._pid is not None

    def end_process(self, pid: int) -> None:
        """Kill one process, if it is the cluster's. Its own parent starts another."""
        with contextlib.suppress(ProcessLookupError):
            if self._pid is not None and os.getpgid(pid) == self._pid:
                os.kill(pid, signal.SIGKILL)

    def stop(self, *, seconds: float) -> None:
        """Let the cluster finish, for so long at most, and end what is left of it."""
        if self._pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._is_done():
            time.sleep(POLL_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End all processes of the cluster at once."""
        if self._pid is not None:
            kill_group(self._pid)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = None

    def _is_done(self) -> bool:
        return self._pid is None or bool(os.waitpid(self._pid, os.WNOHANG)[0])


def end_orphans(lock: LivenessLock, *, seconds: float = 10.0) -> None:
    """Kill the cluster of a supervisor that was killed itself. Raises RuntimeError if it does not go away."""
    deadline = time.monotonic() + seconds
    while not lock.take():
        # The lock is held, so its group lives and its number has not been given to others.
        if (group := lock.read()).isdecimal():
            log.warning("worker_cluster_orphaned", pid=int(group))
            kill_group(int(group))
        if time.monotonic() > deadline:
            raise RuntimeError("The processes of an earlier worker do not end.")
        time.sleep(POLL_SECONDS)
    lock.close()


def kill_group(group: int) -> None:
    """End all processes of a group that is not this one's."""
    if group != os.getpgrp():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def _be_cluster() -> None:
    """Be the cluster's main process; never return."""
    code = 1
    try:
        os.setsid()
        os.nice(NICENESS)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        end_with_parent()
        from django_q.cluster import Cluster as QCluster

        cluster = QCluster()
        cluster.start()
        cluster.sentinel.join()
        code = 0
    except BaseException:
        log.exception("worker_cluster_failed")
    finally:
        os._exit(code)


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when its parent dies (Linux; elsewhere the next start cleans up)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
