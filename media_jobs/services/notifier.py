"""Sends the notices that are due, several at a time and apart from the jobs: a slow receiver delays only its own."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from media_jobs.models import Job
from media_jobs.services.webhooks import deliver, take_due

SENDERS = 16
# Of all senders, those that one user's notices may hold.
PER_OWNER = SENDERS // 2
LOOK_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Notifier:
    """Take what is due whenever a sender is free, one notice of a host at a time."""

    def __init__(self, send: Callable[[Job], None] = deliver) -> None:
        self._send = send
        self._stopping = False
        self._free = threading.Event()
        self._lock = threading.Lock()
        self._hosts: set[str] = set()
        self._owners: Counter[int | None] = Counter()
        self._pool = ThreadPoolExecutor(SENDERS, thread_name_prefix="notice")

    def run(self, beat: Callable[[], None] = lambda: None) -> None:
        """Send until `stop` is called; `beat` is called at every look."""
        while not self._stopping:
            beat()
            self._free.clear()
            try:
                close_old_connections()
                while self.hand_out():
                    beat()
            except (DatabaseError, InterfaceError):
                log.warning("notifier_lost_database", exc_info=True)
                connections.close_all()
            self._free.wait(LOOK_SECONDS)
        self.close()

    def hand_out(self) -> int:
        """Hand what is due to the senders that are free, and return how many notices that were."""
        with self._lock:
            hosts, owners = set(self._hosts), self._owners.copy()
        taken = take_due(
            SENDERS - len(hosts),
            but_hosts=hosts,
            owners=owners,
            per_owner=PER_OWNER,
        )
        for job in taken:
            with self._lock:
                self._hosts.add(job.webhook_host)
                if job.owner_id is not None:
                    self._owners[job.owner_id] += 1
            self._pool.submit(self._send_one, job)
        return len(taken)

    def stop(self) -> None:
        """End at the next look. May be called by a signal's handler, which must wait for no lock."""
        self._stopping = True

    def close(self) -> None:
        """Wait for what is being sent."""
        self._pool.shutdown(wait=True)

    def _send_one(self, job: Job) -> None:
        try:
            self._send(job)
        except Exception:
            log.exception("notice_crashed", job_id=job.public_id)  # due again later
        finally:
            connections.close_all()  # this thread's
            with self._lock:
                self._hosts.discard(job.webhook_host)
                if job.owner_id is not None:
                    self._owners[job.owner_id] -= 1
            self._free.set()
