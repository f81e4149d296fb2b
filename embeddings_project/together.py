"""The web server and the worker beside each other, as `manage.py serve` runs them.

Both are forked from the process that has set Django up, and share its memory. It ends when gunicorn ends, with its exit
code; a worker that ends is started again. Both get SIGTERM when this process does, or when it is killed. They have
process groups of their own: Ctrl-C in a terminal reaches this process alone, and requests under way are answered before
gunicorn ends.
"""

import gc
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

GUNICORN = "python:embeddings_project.gunicorn"
LOOK_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
WORKER_DELAY_SECONDS = 2.0
WORKER_STOP_SECONDS = 30.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Together:
    """The two processes, from start to end."""

    def __init__(self) -> None:
        self._server: ForkProcess | None = None
        self._worker: ForkProcess | None = None
        self._stopping = False
        self._pause = LOOK_SECONDS
        self._worker_due_at = 0.0

    def run(self) -> int:
        """Run both, and return gunicorn's exit code."""
        gc.collect()
        gc.freeze()  # a collection writes to what it looks at, and it would no longer be shared
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        self._server = start_process(serve)
        if self._stopping:  # the signal came while it was being forked
            self._server.terminate()
        # The server starts faster alone, and jobs can wait for that long.
        self._worker_due_at = time.monotonic() + WORKER_DELAY_SECONDS
        while (code := self._look(self._server)) is None:
            pass
        self._end_worker()
        return code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        for process in (self._worker, self._server):
            if process is not None and process.is_alive():
                process.terminate()

    def _look(self, server: "ForkProcess") -> int | None:
        """Wait a moment for gunicorn, and see to the worker. Return gunicorn's exit code once it has one."""
        server.join(LOOK_SECONDS)
        if server.exitcode is None and not (self._worker and self._worker.is_alive()):
            self._start_worker()
        return server.exitcode

    def _start_worker(self) -> None:
        """Start it if it is time: a worker that keeps ending is started less and less often."""
        now = time.monotonic()
        if now - self._worker_due_at > STEADY_SECONDS:
            self._pause = LOOK_SECONDS
        if not self._stopping and now >= self._worker_due_at:
            self._worker = start_process(_work)
            self._worker_due_at = now + self._pause
            self._pause = min(self._pause * 2, MAX_PAUSE_SECONDS)

    def _end_worker(self) -> None:
        if self._worker is None:
            return
        if self._worker.is_alive():
            self._worker.terminate()
        self._worker.join(WORKER_STOP_SECONDS)
        if self._worker.is_alive():
            self._worker.kill()


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
    end_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    run()


def serve() -> None:
    """Be gunicorn, until it ends."""
    from gunicorn.app.wsgiapp import run

    sys.argv = ["gunicorn", "-c", GUNICORN]
    run()


def _work() -> None:
    from django.core.management import call_command
    from django.core.management.base import CommandError
    from setproctitle import setproctitle

    from embeddings_project.gunicorn import count_in, metrics_dir

    setproctitle("embeddings: runworker")
    count_in(metrics_dir / "jobs")  # not among the web server's figures
    try:
        call_command("runworker")
    except CommandError as error:
        sys.exit(str(error))
