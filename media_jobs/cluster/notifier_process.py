"""The process that sends notices, beside the cluster: no job waits for one, and none waits for a job."""

import contextlib
import os
import signal
import sys
import time
from multiprocessing import RawValue

import structlog
from django.db import connections
from setproctitle import setproctitle

from media_jobs.cluster.cluster import NICENESS, POLL_SECONDS, end_with_parent
from media_jobs.cluster.locks import LivenessLock
from media_jobs.services.notifier import Notifier

# A process that has not looked for notices for so long hangs.
HUNG_SECONDS = 60.0
RESTART_SECONDS = 5.0
# What is cut off by a stop is sent again later.
STOP_SECONDS = 5.0

log = structlog.get_logger(__name__)


class NotifierProcess:
    """Start, watch and stop it."""

    clock = staticmethod(time.monotonic)

    def __init__(self, *, own_lock: LivenessLock) -> None:
        self._own_lock = own_lock
        self._pid: int | None = None
        self._due_at = 0.0
        self._beat = RawValue("d", 0.0)

    def look_after(self) -> None:
        """Start it if it does not run, no sooner than a few seconds after the last start; end it if it hangs."""
        now = self.clock()
        if self._pid is not None and now - self._beat.value > HUNG_SECONDS:
            log.error("notifier_hung", pid=self._pid)
            self.kill()
        known = self._pid
        if self._lives():
            return
        if known is not None:
            log.warning("notifier_died", pid=known)
        if now >= self._due_at:
            self._due_at = now + RESTART_SECONDS
            self._start()

    def tell_to_stop(self) -> None:
        """Let it finish what it is sending."""
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)

    def stop(self, *, seconds: float = STOP_SECONDS) -> None:
        """Wait for its end, for so long at most, and end it."""
        self.tell_to_stop()
        deadline = self.clock() + seconds
        while self._lives() and self.clock() < deadline:
            time.sleep(POLL_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = None

    def _lives(self) -> bool:
        if self._pid is not None and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid = None
        return self._pid is not None

    def _start(self) -> None:
        connections.close_all()  # a connection must not be shared over a fork
        sys.stdout.flush()
        sys.stderr.flush()
        self._beat.value = self.clock()
        self._pid = os.fork()
        if self._pid == 0:
            self._own_lock.close()
            self._be_notifier()

    def _be_notifier(self) -> None:
        """Send until SIGTERM; never return."""
        code = 1
        try:
            os.nice(NICENESS)
            setproctitle("embeddings: webhooks")
            notifier = Notifier()
            signal.signal(signal.SIGTERM, lambda *_: notifier.stop())
            # Ctrl-C reaches the supervisor, too, which sends SIGTERM.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            end_with_parent()
            notifier.run(self._show_life)
            code = 0
        except BaseException:
            log.exception("notifier_failed")
        finally:
            os._exit(code)

    def _show_life(self) -> None:
        self._beat.value = self.clock()
