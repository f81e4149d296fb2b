"""The engine, the web server and the worker beside each other, as `manage.py serve` runs them.

All are forked from the process that has set Django up, and share its memory. It ends when gunicorn ends, with its exit
code; an engine or a worker that ends is started again. All get SIGTERM when this process does, or when it is killed,
the engine after the others have ended. They have process groups of their own: Ctrl-C in a terminal reaches this
process alone, and requests under way are answered before gunicorn ends.
"""

import gc
import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING

from django.conf import settings

from embeddings_project.engine_process import EngineProcess
from embeddings_project.processes import SIGNALS, start_process
from providers.state.server_folder import ServerFolder

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

GUNICORN = "python:embeddings_project.gunicorn"
LOOK_SECONDS = 0.25
MAX_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
WORKER_DELAY_SECONDS = 2.0
WORKER_STOP_SECONDS = 30.0


class Together:
    """The processes, from start to end."""

    def __init__(self) -> None:
        inline = settings.LOCAL_ENGINE["process"] == "inline"
        self._folder = ServerFolder(settings.DATA_DIR)
        self._engine = None if inline else EngineProcess(self._folder.path)
        self._server: ForkProcess | None = None
        self._worker: ForkProcess | None = None
        self._stopping = False
        self._pause = LOOK_SECONDS
        self._worker_due_at = 0.0

    def run(self) -> int:
        """Run them, and return gunicorn's exit code."""
        from embeddings_project.gunicorn import begin_counting

        begin_counting()
        gc.collect()
        gc.freeze()  # a collection writes to what it looks at, and it would no longer be shared
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        if self._engine:
            self._engine.start()
        self._server = start_process(self._serve)
        if self._stopping:  # the signal came while it was being forked
            self._server.terminate()
        # The server starts faster alone, and jobs can wait for that long.
        self._worker_due_at = time.monotonic() + WORKER_DELAY_SECONDS
        while (code := self._look(self._server)) is None:
            pass
        self._end_worker()
        if self._engine:
            self._engine.stop()
        self._folder.close()
        return code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        for process in (self._worker, self._server):
            if process is not None and process.is_alive():
                process.terminate()

    def _look(self, server: "ForkProcess") -> int | None:
        """Wait a moment for gunicorn, and see to the others. Return gunicorn's exit code once it has one."""
        server.join(LOOK_SECONDS)
        if server.exitcode is None and not (self._worker and self._worker.is_alive()):
            self._start_worker()
        if self._engine:
            self._engine.look()
        return server.exitcode

    def _start_worker(self) -> None:
        """Start it if it is time: a worker that keeps ending is started less and less often."""
        now = time.monotonic()
        if now - self._worker_due_at > STEADY_SECONDS:
            self._pause = LOOK_SECONDS
        wanted = settings.MEDIA_JOBS.workers and not self._stopping
        if wanted and now >= self._worker_due_at:
            self._worker = start_process(self._work)
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

    def _serve(self) -> None:
        """Be gunicorn, until it ends."""
        if self._engine:
            self._engine.leave_to_parent()
        serve()

    def _work(self) -> None:
        if self._engine:
            self._engine.leave_to_parent()
        work()


def serve() -> None:
    """Be gunicorn, until it ends."""
    from gunicorn.app.wsgiapp import run

    sys.argv = ["gunicorn", "-c", GUNICORN]
    run()


def work() -> None:
    """Be the worker, until it ends."""
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
