"""Processes that `serve` forks: each ends with it, and has a process group of its own."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

LOOK_SECONDS = 0.1
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Held back while a process is made, and from before one program until the next is ready for them.
SIGNALS = (*STOP_SIGNALS, signal.SIGHUP)
# A thread that waits for Python's interpreter asks for it after so long. At Python's own 5 ms a short text would wait
# through several threads that are at work at bulk.
SWITCH_SECONDS = 0.0005


def start_process(run: Callable[[], None]) -> "ForkProcess":
    """Fork a process that does `run`, and ends with this one. No connection to a database may be open."""
    process = multiprocessing.get_context("fork").Process(target=_be, args=[run])
    # This process's answers to signals are not for the other: held back until it has forgotten them.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    process.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return process


def _be(run: Callable[[], None]) -> None:
    from media_jobs.cluster.cluster import end_with_parent  # Django is set up only now

    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    os.setpgrp()
    sys.setswitchinterval(SWITCH_SECONDS)
    end_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    run()


def stands_still(pid: int) -> bool:
    """Whether a child was stopped where it is, as SIGSTOP does; False where the system cannot say."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return False
    with contextlib.suppress(ChildProcessError):
        state = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        return state is not None
    return False


class Former:
    """A child of the program before, as `multiprocessing` would have it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    @property
    def exitcode(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def is_alive(self) -> bool:
        return self.exitcode is None

    def join(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self.is_alive() and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)

    def terminate(self) -> None:
        if self.is_alive():
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        if self.is_alive():
            os.kill(self.pid, signal.SIGKILL)
