"""Watch over the cluster and the jobs: whatever dies is started again, and no job is forgotten."""

import signal
import threading
import time
from types import FrameType

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections

from media_jobs.cluster.cluster import Cluster, end_orphans
from media_jobs.cluster.locks import LivenessLock
from media_jobs.conf import conf
from media_jobs.services.recovery import (
    call_for_waiting,
    hand_back_mine,
    take_up_lost,
    waits_in_vain,
)
from media_jobs.tasks import closing

LOOK_SECONDS = 1.0
# A cluster that leaves due jobs lying for so long while it runs none has stalled.
STALL_SECONDS = 30.0
STOP_SECONDS = 20.0
MAX_PAUSE_SECONDS = 30.0

log = structlog.get_logger(__name__)


class AlreadyRunning(Exception):
    """Another supervisor works for this data folder."""


class Supervisor:
    """Run one cluster until `stop` is called."""

    def __init__(self) -> None:
        self._own_lock = LivenessLock(conf().work_dir / "supervisor.lock")
        self._cluster_lock = LivenessLock(conf().work_dir / "cluster.lock")
        self._cluster = Cluster(self._cluster_lock, own_lock=self._own_lock)
        self._stopping = threading.Event()
        self._started_at = 0.0
        self._pause = LOOK_SECONDS

    def run(self) -> None:
        """Supervise. Raises AlreadyRunning."""
        if not self._own_lock.take():
            raise AlreadyRunning
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        closing.value = 0
        try:
            end_orphans(self._cluster_lock)
            self._start(none_alive=True)
            while not self._stopping.wait(LOOK_SECONDS):
                self._look()
        finally:
            self._end()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()

    def _look(self) -> None:
        if not self._cluster.lives():
            self._stopping.wait(self._pause)
            self._pause = min(self._pause * 2, MAX_PAUSE_SECONDS)
            if not self._stopping.is_set():
                self._start(none_alive=True)
            return
        try:
            close_old_connections()
            take_up_lost()
            call_for_waiting()
            age = time.monotonic() - self._started_at
            if age > STALL_SECONDS and waits_in_vain(seconds=STALL_SECONDS):
                log.error("worker_cluster_stalled")
                self._cluster.kill()
                self._start(none_alive=True)
            elif age > MAX_PAUSE_SECONDS:
                self._pause = LOOK_SECONDS
        except (DatabaseError, InterfaceError):
            log.warning("worker_lost_database", exc_info=True)

    def _start(self, *, none_alive: bool) -> None:
        try:
            take_up_lost(none_alive=none_alive)
        except (DatabaseError, InterfaceError):
            log.warning("worker_lost_database", exc_info=True)
        self._cluster.start()
        self._started_at = time.monotonic()

    def _end(self) -> None:
        """Hand the jobs back, so that they go on later where they were, and end the cluster."""
        closing.value = 1
        try:
            hand_back_mine()
        except (DatabaseError, InterfaceError):
            log.warning("worker_lost_database", exc_info=True)
        self._cluster.stop(seconds=STOP_SECONDS)
        self._own_lock.close()
