"""The processes of all servers that share a database: each says every few seconds that it runs, and how."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.utils import timezone

from embeddings.models import HOUR, MINUTE, Level, Node, ProcessBeat
from embeddings.services.nodes import NodeBeat
from embeddings.services.usage.upserts import add_up
from providers.engine.local_provider import engine_states
from providers.engine.machine import memory_in_use
from providers.state.process import owned
from providers.state.server_folder import is_served

BEAT_SECONDS = 10.0
SILENT_SECONDS = 35.0
FORGOTTEN = timedelta(hours=1)
QUEUED_TOKENS = "engine: queued tokens"
QUEUED_JOBS = "jobs: waiting"
# Their rows say what runs now: no backup and no other database has them.
RUNTIME_MODELS = (Node, ProcessBeat)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """One process. `is_silent`: it has said nothing for so long that it hangs, was killed, or its machine is gone."""

    role: str
    host: str
    pid: int
    started_at: datetime
    beat_at: datetime
    memory_bytes: int
    is_silent: bool
    models: list[dict[str, Any]]


class Beat:
    """Says for one process that it runs, and for the engine process that serves it that this one does."""

    timer = staticmethod(time.monotonic)

    def __init__(self, role: str) -> None:
        self._role = role
        self._node = NodeBeat(role)
        self._started_at = timezone.now()
        self._due_at = self.timer()
        self._stopped = threading.Event()

    def when_due(self) -> bool:
        """Say it if some seconds have passed; return whether they have. Raises DatabaseError."""
        if self.timer() < self._due_at:
            return False
        self._due_at = self.timer() + BEAT_SECONDS
        self._beat()
        return True

    def start(self) -> None:
        """Say it from now on, in a thread."""
        threading.Thread(target=self._run, name="beat", daemon=True).start()

    def close(self) -> None:
        """Say that this process has ended."""
        self._stopped.set()
        with contextlib.suppress(DatabaseError, InterfaceError):  # silence says so, too
            ProcessBeat.objects.filter(pid=os.getpid(), host=_host()).delete()

    def _run(self) -> None:
        while True:
            try:
                self._beat()
            except (DatabaseError, InterfaceError) as error:
                log.warning("beat_not_stored", reason=type(error).__name__)
            finally:
                connection.close()  # this thread's own
            if self._stopped.wait(BEAT_SECONDS):
                return

    def _beat(self) -> None:
        own = os.getpid()
        models: list[Mapping[str, Any]] = []
        for state in engine_states():
            if state.pid == own:
                models += state.loaded
            else:
                started_at = timezone.now() - timedelta(seconds=state.up_seconds)
                _store(
                    "engine", state.pid, started_at, state.memory_bytes, state.loaded
                )
            sample(QUEUED_TOKENS, state.queued_tokens)
        _store(self._role, own, self._started_at, memory_in_use(), models)
        self._node.say()
        _forget()


@owned
def web_beat() -> Beat:
    """Return what says that this web process runs."""
    return Beat("web")


def sample(name: str, value: float) -> None:
    """Note how high a level is now. Raises DatabaseError."""
    now = int(time.time())
    rows = [
        Level(
            name=name,
            start=now // span * span,
            span=span,
            samples=1,
            total=value,
            highest=value,
        )
        for span in (MINUTE, HOUR)
    ]
    with transaction.atomic():
        add_up(
            Level,
            rows,
            keys=("start", "span", "name"),
            sums=("samples", "total"),
            highest=("highest",),
        )


def process_states() -> Iterator[ProcessState]:
    """Yield what runs, or ran until less than an hour ago and did not end itself."""
    now = timezone.now()
    for row in ProcessBeat.objects.order_by("host", "role", "pid"):
        yield ProcessState(
            role=row.role,
            host=row.host,
            pid=row.pid,
            started_at=row.started_at,
            beat_at=row.beat_at,
            memory_bytes=row.memory_bytes,
            is_silent=(now - row.beat_at).total_seconds() > SILENT_SECONDS,
            models=row.detail.get("models", []),
        )


def processes_here() -> Iterator[ProcessState]:
    """Yield those of this machine."""
    return (state for state in process_states() if state.host == _host())


def what_runs(data_dir: Path) -> str | None:
    """Say which server or worker uses this installation, and what to do; None if none does."""
    if is_served(data_dir):
        return f"A server uses {data_dir}. Stop it, and run the command again."
    file = Path(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite" and not file.exists():
        return None
    try:
        state = next((one for one in process_states() if _seems_alive(one)), None)
    except DatabaseError:
        return None  # of an older release, or broken
    finally:
        connection.close()
    if state is None:
        return None
    return (
        f"The process {state.pid} ({state.role}) on {state.host} said at {state.beat_at:%H:%M:%S} UTC that it uses"
        f" this database. Stop it, or wait {SILENT_SECONDS:.0f} seconds if it was killed, and run the command again."
    )


def runs(role: str) -> bool:
    """Whether a process of this kind runs, on any machine."""
    heard = timezone.now() - timedelta(seconds=SILENT_SECONDS)
    return ProcessBeat.objects.filter(role=role, beat_at__gte=heard).exists()


def _store(
    role: str, pid: int, started_at: datetime, memory_bytes: int, models: Any
) -> None:
    ProcessBeat.objects.update_or_create(
        host=_host(),
        pid=pid,
        role=role,
        defaults={
            "started_at": started_at,
            "beat_at": timezone.now(),
            "memory_bytes": memory_bytes,
            "detail": {"models": list(models)},
        },
    )


def _forget() -> None:
    """Delete the rows of processes of this machine that are gone, and of any that were silent for long."""
    now = timezone.now()
    ProcessBeat.objects.filter(beat_at__lt=now - FORGOTTEN).delete()
    silent = ProcessBeat.objects.filter(
        host=_host(), beat_at__lt=now - timedelta(seconds=SILENT_SECONDS)
    )
    for row in silent:
        if _is_gone(row.pid):
            row.delete()


def _seems_alive(state: ProcessState) -> bool:
    """Whether it was heard of lately, and is not one of this machine that has ended since."""
    return not state.is_silent and not (state.host == _host() and _is_gone(state.pid))


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # it runs, as another user
    return False


def _host() -> str:
    return socket.gethostname()[:255]
