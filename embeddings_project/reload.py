"""A reload without a gap: `serve` becomes a new program under its old process id, and keeps its socket and children.

The new program starts children of its own, which accept from the same socket, and ends the old ones once those answer.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Self

from embeddings_project.processes import SIGNALS

OPTION, ONLY_PREPARE = "--inherited", "--only-prepare"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What a program has from the one before: the descriptors of its sockets, its folder and the descriptor that locks
    it, and its children's process ids (0: none).
    """

    listener: int
    folder: str
    folder_lock: int
    server: int
    worker: int = 0
    engine: int = 0
    engine_listener: int = 0

    @classmethod
    def read(cls, text: str) -> Self:
        return cls(**json.loads(text))

    def written(self) -> str:
        return json.dumps(asdict(self))


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
    kept = (inherited.listener, inherited.folder_lock, inherited.engine_listener)
    for descriptor in filter(None, kept):
        os.set_inheritable(descriptor, True)  # noqa: FBT003
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
