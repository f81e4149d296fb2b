"""Run the web server and the worker beside each other: `python -m embeddings_project.together`.

A small process without Django. It ends when gunicorn ends, with its exit code; a worker that ends is started again.
Both are told when this process is told to end, or is killed. They have process groups of their own: Ctrl-C in a
terminal reaches this process alone, and requests under way are answered before gunicorn ends.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from types import FrameType

GUNICORN = "python:embeddings_project.gunicorn"
LOOK_SECONDS = 0.5
MAX_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
WORKER_DELAY_SECONDS = 2.0
WORKER_STOP_SECONDS = 30.0
PR_SET_PDEATHSIG = 1


class Together:
    """The two processes, from start to end."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._pause = LOOK_SECONDS
        self._worker_due_at = 0.0

    def run(self) -> int:
        """Run both, and return gunicorn's exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._server = _start("-m", "gunicorn", "-c", GUNICORN)
        # The server starts faster alone, and jobs can wait for that long.
        self._worker_due_at = time.monotonic() + WORKER_DELAY_SECONDS
        while (code := self._look()) is None:
            pass
        self._end_worker()
        return code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        for process in (self._worker, self._server):
            if process is not None and process.poll() is None:
                process.terminate()

    def _look(self) -> int | None:
        """Wait a moment for gunicorn, and see to the worker. Return gunicorn's exit code once it has one."""
        if self._server is None:
            return 1
        try:
            return self._server.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        if self._worker is None or self._worker.poll() is not None:
            self._start_worker()
        return None

    def _start_worker(self) -> None:
        """Start it if it is time: a worker that keeps ending is started less and less often."""
        now = time.monotonic()
        if now - self._worker_due_at > STEADY_SECONDS:
            self._pause = LOOK_SECONDS
        if not self._stopping and now >= self._worker_due_at:
            self._worker = _start("manage.py", "runworker")
            self._worker_due_at = now + self._pause
            self._pause = min(self._pause * 2, MAX_PAUSE_SECONDS)

    def _end_worker(self) -> None:
        if self._worker is None or self._worker.poll() is not None:
            return
        self._worker.terminate()
        try:
            self._worker.wait(WORKER_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._worker.kill()


def _start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  (our own arguments)
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=_end_with_parent,
    )


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    sys.exit(Together().run())
