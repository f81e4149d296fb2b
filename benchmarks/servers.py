"""Servers under test: started, waited for, held still while others run, measured as process trees, stopped."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import psutil

from tests.servers import send

START_SECONDS = 300.0
STOP_SECONDS = 40.0
# A resumed worker has this long to send its heartbeat before its parent, resumed after it, may miss that.
HEARTBEAT_SECONDS = 1.1
IDLE_SHARE = 0.05  # of one core
IDLE_SECONDS = 0.5
ENGINE_TITLE = "embeddings: engine"


class Tree:
    """A process and all its descendants."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    def processes(self) -> list[psutil.Process]:
        """Return those that live, parents before children."""
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_seconds(self) -> float:
        """Return the processor time spent so far, of ended and waited-for children too."""
        return self.sum(lambda process: sum(process.cpu_times()[:4]))

    def engine_cpu_seconds(self) -> float:
        """Return the processor time that this server's engine process spent so far; 0 where it has none."""
        return self.sum(
            lambda process: (
                sum(process.cpu_times()[:4])
                if ENGINE_TITLE in " ".join(process.cmdline())
                else 0.0
            )
        )

    def proportional_bytes(self) -> float:
        """Return the memory in use, pages that several processes share counted once (Linux; elsewhere RSS)."""
        return self.sum(_proportional_bytes)

    def wait_until_idle(self, seconds: float = 120.0) -> None:
        """Return once next to no processor time is used, or after `seconds`."""
        deadline = time.monotonic() + seconds
        spent = self.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(IDLE_SECONDS)
            before, spent = spent, self.cpu_seconds()
            if spent - before < IDLE_SHARE * IDLE_SECONDS:
                return

    def pause(self) -> None:
        """Hold all processes still."""
        hold(self.processes())

    def resume(self) -> None:
        """Let them run on."""
        let_go(self.processes())

    def sum(self, figure: Callable[[psutil.Process], float]) -> float:
        """Return the sum of a figure over those that live."""
        total = 0.0
        for process in self.processes():
            try:
                total += figure(process)
            except psutil.NoSuchProcess:
                continue
        return total


class Server:
    """One server in a session of its own, on `cores` alone; what it says goes to `log`."""

    def __init__(
        self,
        command: list[str],
        *,
        port: int,
        log: Path,
        environment: Mapping[str, str],
        cwd: Path,
        cores: Collection[int] | None = None,
    ) -> None:
        self.port, self.log = port, log
        if cores:
            command = ["taskset", "-c", ",".join(map(str, sorted(cores))), *command]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                cwd=cwd,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.tree = Tree(self._process.pid)

    def wait_until(
        self, answered: Callable[[int], bool], *, pause_seconds: float
    ) -> None:
        """Return once `answered(port)` is true. Raises RuntimeError with the log's end if that never happens."""
        deadline = time.monotonic() + START_SECONDS
        while not answered(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                end = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"The server did not start:\n{end}")
            time.sleep(pause_seconds)

    def stop(self) -> None:
        """End all its processes, held or not, at the latest by force."""
        processes = self.tree.processes()
        for process in reversed(processes):
            send(process, signal.SIGCONT)
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        for process in psutil.wait_procs(processes, timeout=STOP_SECONDS)[1]:
            send(process, signal.SIGKILL)
        self._process.wait()


def hold(processes: Sequence[psutil.Process]) -> None:
    """Have a family stand still, parents first, so that none replaces another."""
    for process in processes:
        send(process, signal.SIGSTOP)


def let_go(processes: Sequence[psutil.Process]) -> None:
    """Let a family run on, children first, so that no parent finds its children silent."""
    parent, *children = processes
    for process in reversed(children):
        send(process, signal.SIGCONT)
    if children:
        time.sleep(HEARTBEAT_SECONDS)
    send(parent, signal.SIGCONT)


def title_of(process: psutil.Process) -> str:
    """Return what a process calls itself; nothing if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def state_of(process: psutil.Process) -> str:
    """Return psutil's word for what a process does; of one that has ended it is a zombie's."""
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return psutil.STATUS_ZOMBIE


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def request(
    port: int,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> bytes | None:
    """Send one request and return the answer's body, or None if it is not a 2xx or there is nobody there."""
    url = f"http://127.0.0.1:{port}{path}"
    wanted = urllib.request.Request(
        url, method=method, headers=dict(headers or {}), data=body
    )
    try:
        with urllib.request.urlopen(wanted, timeout=60) as answer:  # noqa: S310
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def _proportional_bytes(process: psutil.Process) -> float:
    memory = process.memory_full_info()
    return float(getattr(memory, "pss", memory.rss))
