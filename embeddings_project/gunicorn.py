"""gunicorn's configuration: `gunicorn -c python:embeddings_project.gunicorn`. Threads in few processes; no
inference runtime is loaded before the fork, since none survives one."""

import os
import select
import shutil
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from gunicorn.glogging import Logger

from embeddings_project.metric_files import reserve_metric_files
from providers.engine.machine import (
    allowed_cores,
    keep_to_one_core,
    share_one_heap,
    usable_cores,
)
from providers.state import process

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

STORE_SECONDS = 5  # for a worker that has answered all to store what it counted

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "embeddings_project.settings")

proc_name = "embeddings"
wsgi_app = "embeddings_project.wsgi:application"
bind = (
    f"[{settings.HOST}]:{settings.PORT}"
    if ":" in settings.HOST
    else f"{settings.HOST}:{settings.PORT}"
)
workers = settings.WEB_CONCURRENCY
worker_class = (
    "embeddings_project.front.worker.FrontWorker"
    if hasattr(select, "epoll")
    else "gthread"  # macOS, for development: slow clients hold it
)
threads = settings.WEB_THREADS
backlog = 4096
timeout = 8  # seconds without a heartbeat before a worker is replaced; a long request does not stop the heartbeat
graceful_timeout = settings.HTTP_FRONT.drain_seconds + STORE_SECONDS
control_socket_disable = True
forwarded_allow_ips = settings.FORWARDED_ALLOW_IPS
forwarder_headers = ""  # PUBLIC_URL says the prefix; a header could be the client's


class ErrorLogger(Logger):  # type: ignore[misc]
    """gunicorn's own log, without access lines: every answer has its line, by RequestContextMiddleware."""

    def access(self, *_: Any) -> None:
        """Do nothing, where gunicorn would put a line together for nobody."""


logger_class = ErrorLogger
umask = 0o077
loglevel = settings.LOG_LEVEL
logconfig_dict = {
    **settings.LOGGING,
    "loggers": {
        "gunicorn.error": {
            "level": settings.LOG_LEVEL.upper(),
            "handlers": ["stderr"],
            "propagate": False,
        }
    },
}

answers: "Event | None" = None  # set once a worker is about to accept
engine_apart = False  # models run in a process of its own

metrics_dir = Path(settings.DATA_DIR) / "metrics"


def count_in(folder: Path) -> None:
    """Have prometheus_client count in files of `folder`. It chooses so when it is imported, and looks where after a
    fork."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(
            f"DATA_DIR must be a folder that this user can write to: {folder}: {error.strerror}."
        ) from error
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    reserve_metric_files()


_counting = False


def begin_counting() -> None:
    """Begin with nothing counted: forget the figures of an earlier run, once in this one."""
    global _counting
    if not _counting:
        shutil.rmtree(metrics_dir, ignore_errors=True)
        count_in(metrics_dir)
        _counting = True


def on_starting(server: Any) -> None:
    """See `begin_counting`."""
    begin_counting()


def post_fork(server: Any, worker: Any) -> None:
    """Keep each worker to one heap, and to one core where all cores get as many of them, if it runs no models."""
    if not engine_apart:
        return
    share_one_heap()
    cores = len(allowed_cores())
    is_even = workers % cores == 0 and usable_cores() == cores > 1
    if settings.WEB_AFFINITY and is_even and hasattr(worker, "place"):  # no gthread
        keep_to_one_core(worker.place)


def post_worker_init(worker: Any) -> None:
    """Answer what is under way before the end, whatever signal asks for it, and load the default local model at once.

    gunicorn's own answer to Ctrl-C takes a lock in a signal handler, and may stand still in it until it is killed.
    """
    from embeddings.services.health import warm_up  # not before the fork
    from embeddings.services.processes import web_beat

    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, worker.handle_exit)
    threading.Thread(target=warm_up, name="warm-up", daemon=True).start()
    web_beat().start()
    if answers:
        answers.set()


def worker_exit(server: Any, worker: Any) -> None:
    """Store what this worker has counted or cached and not stored yet."""
    # A worker may fail before; and gunicorn's main process calls this for one that is gone already.
    if apps.ready and worker.pid == os.getpid():
        process.close()


def child_exit(server: Any, worker: Any) -> None:
    """Drop the live gauges of a worker that is gone, and its count of connections."""
    from prometheus_client import multiprocess  # not before the fork

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
    if hasattr(worker, "ended"):  # gthread has none
        worker.ended()
