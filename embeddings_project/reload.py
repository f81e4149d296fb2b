"""A reload without a gap: `serve` becomes a new program under its old process id, and keeps its socket and children.

The new program starts children of its own, which accept from the same socket, and ends the old ones once those answer.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Self

LOOK_SECONDS = 0.1
# Held back from before one program until the next is ready for them.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
OPTION, ONLY_PREPARE = "--inherited", "--only-prepare"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What a program has from the one before: its socket's descriptor, and its children's process ids (0: none)."""

    listener: int
    server: int
    worker: int

    @classmethod
    def read(cls, text: str) -> Self:
        listener, server, worker = map(int, text.split(","))
        return cls(listener=listener, server=server, worker=worker)

    def written(self) -> str:
        return f"{self.listener},{self.server},{self.worker}"


class Former:
    """A child of the program before, as `multiprocessing` would have it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    @property
    def exitcode(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def is_alive(self) -> bool:
        return self.exitcode is None

    def join(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self.is_alive() and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)

    def terminate(self) -> None:
        if self.is_alive():
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        if self.is_alive():
            os.kill(self.pid, signal.SIGKILL)


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket of this address, which does not listen yet. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def is_prepared() -> bool:
    """Check the configuration as a new program would find it, and prepare what it asks for; return whether that went
    well."""
    return subprocess.run([*_command(), ONLY_PREPARE], check=False).returncode == 0  # noqa: S603


def begin_again(inherited: Inherited) -> None:
    """Become the new program."""
    os.set_inheritable(inherited.listener, True)  # noqa: FBT003
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    sys.stdout.flush()
    command = [*_command(), OPTION, inherited.written()]
    os.execv(sys.executable, command)  # noqa: S606


def _command() -> list[str]:
    """Return how `serve` was called, less what it inherited."""
    given = sys.argv[2:]
    if OPTION in given:
        at = given.index(OPTION)
        del given[at : at + 2]
    return [sys.executable, "-m", "embeddings_project", "serve", *given]
