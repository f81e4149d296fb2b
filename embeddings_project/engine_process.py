"""The engine process as `serve` keeps it: started before the web server, watched, and started again."""

import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import structlog
from django.conf import settings

from embeddings_project.processes import Former, start_process
from embeddings_project.reload import Inherited
from providers.engine.process.place import Place, write_death
from providers.engine.process.wire import Channel, Closed

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

# An engine that says nothing for so long is replaced: it was stopped, or all its threads hang.
SILENT_SECONDS = 8.0
STOPPED_SECONDS = 2.0
MAX_PAUSE_SECONDS = 2.0
STEADY_SECONDS = 60.0
STOP_SECONDS = 5.0

log = structlog.get_logger(__name__)


class EngineProcess:
    """One engine at a time, all at one socket: clients wait there while the next one starts."""

    def __init__(self, place: Place, former: Former | None) -> None:
        self._place = place
        self._former = former  # of the program before this one, at the same socket
        self._process: ForkProcess | None = None
        self._pulse: Channel | None = None
        self._started_at = self._looked_at = self._heard_at = self._due_at = 0.0
        self._pause = 0.0

    @classmethod
    def of_settings(cls, folder: Path, inherited: Inherited | None) -> Self | None:
        """Return what keeps the engine, its socket in `folder`; None where each process has its own. Raises OSError."""
        former = Former(inherited.engine) if inherited and inherited.engine else None
        if settings.ENGINE == "inline":
            if former:
                former.terminate()
            return None
        listener = inherited.engine_listener if inherited else 0
        return cls(Place(settings.DATA_DIR, folder, listener=listener), former)

    def start(self) -> None:
        """Fork the process. The one before it answers whom it has, and then ends."""
        self._process = start_process(self._be_engine)
        self._started_at = self._heard_at = time.monotonic()
        if self._former:
            self._former.terminate()

    def handed_on(self) -> dict[str, Any]:
        """Return what the next program inherits of this."""
        return {
            "engine": self._process.pid if self._process else 0,
            "engine_listener": self._place.listener.fileno(),
        }

    def look(self) -> None:
        """Start it again if it died, and kill it if it says nothing any more."""
        now = time.monotonic()
        if now - self._looked_at > STOPPED_SECONDS:  # this process was stopped itself
            self._heard_at = now
        self._looked_at = now
        if self._former and not self._former.is_alive():
            self._former = None
        if self._process is not None and self._process.exitcode is not None:
            self._note_death(self._process)
        if self._process is not None:
            self._listen(self._process, now)
        elif now >= self._due_at:
            self.start()

    def leave_to_parent(self) -> None:
        """Close what a forked child has no use for."""
        self._place.listener.close()
        self._hang_up()

    def stop(self) -> None:
        """End it, and remove its socket. No client is left by now."""
        self._hang_up()
        if self._process is not None:
            self._process.terminate()
            self._process.join(STOP_SECONDS)
            self._process.kill()
        if self._former:
            self._former.kill()
        self._place.close()

    def _note_death(self, process: "ForkProcess") -> None:
        """Record why, for the clients whose calls it had, and when to start the next one."""
        from prometheus_client import multiprocess

        self._hang_up()
        pid, code = process.pid or 0, process.exitcode or 0
        write_death(self._place.path.parent, pid, code)
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
        now = time.monotonic()
        self._pause = (
            0.0
            if now - self._started_at > STEADY_SECONDS
            else min(max(self._pause * 2, 0.1), MAX_PAUSE_SECONDS)
        )
        self._due_at = now + self._pause
        self._process = None
        log.error("engine_died", pid=pid, code=code)

    def _listen(self, process: "ForkProcess", now: float) -> None:
        """Ask it something, once it has answered the last time."""
        try:
            if self._pulse is None:
                self._pulse = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                self._pulse.socket.settimeout(0.0)
                self._pulse.socket.connect(str(self._place.path))
            if self._pulse.socket.recv(2**16):
                self._heard_at = now
                self._pulse.send({"op": "state"})
        except BlockingIOError:
            if now - self._heard_at > SILENT_SECONDS:
                log.error("engine_silent", pid=process.pid, seconds=SILENT_SECONDS)
                process.kill()
        except (OSError, Closed):
            self._hang_up()  # it ends

    def _hang_up(self) -> None:
        if self._pulse is not None:
            self._pulse.close()
            self._pulse = None

    def _be_engine(self) -> None:
        from setproctitle import setproctitle

        from providers.engine.process.server import serve_engine

        setproctitle("embeddings: engine")
        serve_engine(
            settings.LOCAL_ENGINE,
            self._place.listener,
            drain_seconds=settings.HTTP_FRONT.drain_seconds,
        )
        sys.exit(0)
