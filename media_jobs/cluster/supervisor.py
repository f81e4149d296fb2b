"""Watch over the cluster, the notices and the jobs: what dies or hangs is started again, and no job is forgotten."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections

from embeddings.services.processes import QUEUED_JOBS, Beat, sample
from media_jobs.cluster.cluster import Cluster, end_orphans
from media_jobs.cluster.locks import LivenessLock
from media_jobs.cluster.notifier_process import NotifierProcess
from media_jobs.conf import conf
from media_jobs.services.claims import worker_id
from media_jobs.services.heartbeat import Watch
from media_jobs.services.recovery import (
    call_for_waiting,
    hand_back_mine,
    left_lying,
    put_back_lost,
    waiting_jobs,
)
from media_jobs.tasks import closing

LOOK_SECONDS = 1.0
# A cluster that leaves the next job lying for so long while it runs none has stalled.
STALL_SECONDS = 30.0
STOP_SECONDS = 20.0
MAX_PAUSE_SECONDS = 30.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

log = structlog.get_logger(__name__)


class AlreadyRunning(Exception):
    """Another supervisor works for this data folder."""


class Supervisor:
    """Run one cluster until `stop` is called."""

    def __init__(self) -> None:
        self._own_lock = LivenessLock(conf().work_dir / "supervisor.lock")
        self._cluster_lock = LivenessLock(conf().work_dir / "cluster.lock")
        self._cluster = Cluster(self._cluster_lock, own_lock=self._own_lock)
        self._notifier = NotifierProcess(own_lock=self._own_lock)
        self._watch = Watch()
        self._beat = Beat("worker")
        self._stopping = threading.Event()
        self._started_at = 0.0
        self._pause = LOOK_SECONDS
        self._lying: tuple[int | None, float] = (None, 0.0)

    def run(self) -> None:
        """Supervise. Raises AlreadyRunning."""
        if not self._own_lock.take():
            raise AlreadyRunning
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        closing.value = 0
        worker_id.cache_clear()
        try:
            end_orphans(self._cluster_lock)
            previous = succeed(self._own_lock)
            self._start(dead=[previous] if previous else [])
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
                self._start(dead=[worker_id()])
            return
        self._notifier.look_after()
        try:
            close_old_connections()
            put_back_lost(self._watch, end=self._cluster.end_process)
            call_for_waiting()
            self._end_stalled()
            if self._beat.when_due():
                sample(QUEUED_JOBS, waiting_jobs())
        except (DatabaseError, InterfaceError) as error:
            log.warning("worker_lost_database", reason=type(error).__name__)

    def _end_stalled(self) -> None:
        """Start the cluster again where it leaves one job lying."""
        now = time.monotonic()
        if now - self._started_at > MAX_PAUSE_SECONDS:
            self._pause = LOOK_SECONDS
        job = left_lying()
        if job is None or job != self._lying[0]:
            self._lying = (job, now)
        elif now - max(self._lying[1], self._started_at) > STALL_SECONDS:
            log.error("worker_cluster_stalled")
            self._cluster.kill()
            self._start(dead=[worker_id()])

    def _start(self, *, dead: list[str]) -> None:
        try:
            put_back_lost(self._watch, dead=dead)
        except (DatabaseError, InterfaceError) as error:
            log.warning("worker_lost_database", reason=type(error).__name__)
        self._cluster.start()
        self._started_at = time.monotonic()

    def _end(self) -> None:
        """Hand the jobs back, so that they go on later where they were, and end all processes."""
        closing.value = 1
        try:
            hand_back_mine()
        except (DatabaseError, InterfaceError) as error:
            log.warning("worker_lost_database", reason=type(error).__name__)
        self._beat.close()
        self._notifier.tell_to_stop()
        self._cluster.stop(seconds=STOP_SECONDS)
        self._notifier.stop()
        self._own_lock.close()


def succeed(lock: LivenessLock) -> str | None:
    """Write this worker's name into its lock; return the name of the worker before it, if its processes ran here.

    They did where the record was made in this very file since the machine was booted; who holds the lock knows that
    none of them lives. In a copy of the data folder the record is another worker's, and that one may be at work.
    """
    here = f"{_boot_id()} {lock.place()}"
    before, _, place = lock.read().partition(" ")
    lock.write(f"{worker_id()} {here}")
    return before if _boot_id() and place == here else None


def _boot_id() -> str:
    """Return what the kernel drew at its start; empty where it does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
