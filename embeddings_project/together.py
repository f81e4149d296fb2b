"""The engine, the web server and, where there are jobs, the worker beside them, as `manage.py serve` runs them.

All are forked from the process that has set Django up, and share its memory. It ends when gunicorn ends, with its exit
code; an engine or a worker that ends is started again. All get SIGTERM when this process does, or when it is killed,
the engine after the others have ended. They have process groups of their own: Ctrl-C in a terminal reaches this
process alone, and requests under way are answered before gunicorn ends.

SIGHUP reloads: see `reload.py`.
"""

import contextlib
import gc
import multiprocessing
import signal
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import structlog
from django.conf import settings

from embeddings_project.engine_process import EngineProcess
from embeddings_project.processes import (
    STOP_SIGNALS,
    Former,
    stands_still,
    start_process,
)
from embeddings_project.reload import Inherited, begin_again, is_prepared
from providers.state.server_folder import ServerFolder

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess
    from socket import socket

GUNICORN = "python:embeddings_project.gunicorn"
WEB_MODULES = (
    "embeddings.fast_path.handler",
    # A check of Django's loads these two.
    "django.core.management.commands.makemigrations",
    "django.core.management.commands.migrate",
)
LOOK_SECONDS = 0.25
MAX_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
WORKER_DELAY_SECONDS = 2.0
WORKER_STOP_SECONDS = 30.0
# A worker that was stopped where it is, and not continued for so many looks, is replaced.
MOST_STILL_LOOKS = 24

log = structlog.get_logger(__name__)


class Together:
    """The processes, from start to end. `listener` is the web server's socket; `inherited`, the children of the program
    before this one."""

    def __init__(self, listener: "socket", *, inherited: Inherited | None) -> None:
        self._listener = listener
        self._folder = ServerFolder(
            settings.DATA_DIR,
            path=Path(inherited.folder) if inherited else None,
            lock=inherited.folder_lock if inherited else 0,
        )
        self._engine = EngineProcess.of_settings(self._folder.path, inherited)
        self._server: ForkProcess | Former | None = None
        self._worker: ForkProcess | Former | None = None
        self._former: Former | None = None  # serves until the new server answers
        if inherited:
            self._former = Former(inherited.server)
            self._worker = Former(inherited.worker) if inherited.worker else None
        self._answers = multiprocessing.get_context("fork").Event()
        self._stopping = self._reloading = self._relieved = False
        self._pause = LOOK_SECONDS
        self._worker_due_at = 0.0
        self._still_looks = 0

    def run(self) -> int:
        """Run them, and return gunicorn's exit code."""
        from embeddings_project.gunicorn import begin_counting

        begin_counting()
        load_for_web()
        gc.collect()
        gc.freeze()  # a collection writes to what it looks at, and it would no longer be shared
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        in_terminal = sys.stdin is not None and sys.stdin.isatty()
        if not in_terminal:  # where it says that the terminal is gone
            signal.signal(signal.SIGHUP, self._on_hang_up)
        if self._engine:
            self._engine.start()
        self._server = start_process(self._serve)
        if self._stopping:  # the signal came while it was being forked
            self._server.terminate()
        # The server starts faster alone, and jobs can wait for that long.
        self._worker_due_at = time.monotonic() + WORKER_DELAY_SECONDS
        while (code := self._look()) is None:
            pass
        self._end_worker()
        if self._engine:
            self._engine.stop()
        self._folder.close()
        return code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        self._listener.close()  # or new connections would wait for nobody
        for process in (self._worker, self._former, self._server):
            if process is not None and process.is_alive():
                process.terminate()

    def _on_hang_up(self, number: int, frame: FrameType | None) -> None:
        self._reloading = True

    def _serve(self) -> None:
        from embeddings_project import gunicorn

        self._leave_engine()
        gunicorn.answers = self._answers
        gunicorn.engine_apart = self._engine is not None
        serve(self._listener.fileno())

    def _look(self) -> int | None:
        """Wait a moment for gunicorn, and see to the others. Return gunicorn's exit code once it has one."""
        server = self._server
        if server is None:
            raise RuntimeError("The server was not started.")
        server.join(LOOK_SECONDS)
        if self._engine:
            self._engine.look()
        if self._former:
            self._relieve(self._former)
            return None
        if server.exitcode is None:
            if self._worker and self._worker.is_alive():
                self._watch_worker(self._worker)
            else:
                self._start_worker()
            if self._reloading and self._answers.is_set():
                self._reload(server)
        return server.exitcode

    def _relieve(self, former: Former) -> None:
        """End the server before once the new one answers; keep it where the new one ends before that."""
        if self._server is not None and self._server.exitcode is not None:
            if not former.is_alive():
                self._former = None
                return
            log.error("reload_failed", detail="The server before this one goes on.")
            self._server, self._former = former, None
            self._answers.set()
        elif not former.is_alive():
            self._former = None
            log.info("reloaded")
        elif self._answers.is_set() and not self._relieved:
            self._relieved = True
            for process in (self._worker, former):
                if process is not None:
                    process.terminate()

    def _reload(self, server: "ForkProcess | Former") -> None:
        self._reloading = False
        if not is_prepared():
            log.error("reload_refused", detail="The new configuration is wrong.")
        elif not self._stopping and server.pid:
            worker = self._worker.pid if self._worker and self._worker.is_alive() else 0
            log.info("reloading")
            begin_again(
                Inherited(
                    listener=self._listener.fileno(),
                    server=server.pid,
                    worker=worker or 0,
                    folder=str(self._folder.path),
                    folder_lock=self._folder.lock,
                    **(self._engine.handed_on() if self._engine else {}),
                )
            )

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

    def _watch_worker(self, worker: "ForkProcess | Former") -> None:
        self._still_looks = (
            self._still_looks + 1 if stands_still(worker.pid or 0) else 0
        )
        if self._still_looks > MOST_STILL_LOOKS:
            log.error("worker_stands_still", pid=worker.pid)
            worker.kill()

    def _end_worker(self) -> None:
        if self._worker is None:
            return
        if self._worker.is_alive():
            self._worker.terminate()
        self._worker.join(WORKER_STOP_SECONDS)
        if self._worker.is_alive():
            self._worker.kill()

    def _work(self) -> None:
        self._listener.close()  # a copy here would keep it open after the server's end
        self._leave_engine()
        work()

    def _leave_engine(self) -> None:
        if self._engine:
            self._engine.leave_to_parent()


def load_for_web() -> None:
    """Load what each web process will use, so that they share it: views, middleware, plug-ins, the client of Redis, the
    default local model's tokenizer.

    Other packages' plug-ins are left to them: what these load may not survive a fork.
    """
    from embeddings.conf import DEFAULT_LOCAL_MODEL, conf
    from providers.built_in import built_in
    from providers.engine.local_provider import engine_of
    from providers.engine.options import EngineOptions
    from providers.exceptions import ProviderError

    plugins = [one.place.partition(":")[0] for one in built_in()]
    middleware = [path.rpartition(".")[0] for path in settings.MIDDLEWARE]
    extra = ["redis"] if conf().cache.redis_url and find_spec("redis") else []
    for name in (settings.ROOT_URLCONF, *WEB_MODULES, *middleware, *plugins, *extra):
        import_module(name)
    if settings.ENGINE != "inline":
        # It is not on this machine, or not to be read: who asks for it will hear why.
        with contextlib.suppress(ProviderError, OSError):
            options = EngineOptions.of(settings.LOCAL_ENGINE)
            engine_of(options).tokenizers.get(DEFAULT_LOCAL_MODEL)


def serve(listener: int) -> None:
    """Be gunicorn, until it ends, and accept from the socket of this descriptor."""
    from gunicorn.app.wsgiapp import run

    sys.argv = ["gunicorn", "-c", GUNICORN, "--bind", f"fd://{listener}"]
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
