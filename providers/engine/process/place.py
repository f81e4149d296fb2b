"""Where the engine process listens: a Unix socket in its server's folder, which DATA_DIR records."""

import contextlib
import os
import signal
import socket
from pathlib import Path

RECORD = "engine.socket"
SOCKET = "engine.sock"
BACKLOG = 1024
KEPT_DEATHS = 16
# Exit codes of an engine that was stopped or killed from outside: by us, by the kernel, by an operator.
STOPPED = frozenset({0, -signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT})
HUNG = 70

# The socket that this process's parent listens at: it comes before the record, which another server may replace.
_of_parent: list[Path] = []


class Place:
    """A listening socket; one owner makes it, and hands it to each engine process it starts."""

    def __init__(self, data_dir: Path, folder: Path, *, listener: int = 0) -> None:
        """`listener`: the socket's file descriptor, from a program before this one."""
        self._record = data_dir / RECORD
        self._owner = os.getpid()
        self.path = folder / SOCKET
        if listener:
            self.listener = socket.socket(fileno=listener)
            self.listener.set_inheritable(False)
        else:
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(str(self.path))
            self.path.chmod(0o600)
            self.listener.listen(BACKLOG)
        written = self._record.with_suffix(f".{self._owner}")
        written.write_text(str(self.path))
        written.replace(self._record)
        _of_parent[:] = [self.path]

    def close(self) -> None:
        """Stop listening, and remove the socket."""
        self.listener.close()
        if os.getpid() != self._owner:
            return
        with contextlib.suppress(OSError):
            if self._record.read_text() == str(self.path):
                self._record.unlink()
        self.path.unlink(missing_ok=True)


def recorded(data_dir: Path) -> Path:
    """Return the socket at which an engine was started last for this data folder, whether or not one is there."""
    if _of_parent:
        return _of_parent[0]
    try:
        return Path((data_dir / RECORD).read_text())
    except OSError:
        return data_dir / SOCKET  # there is none


def listens(path: Path) -> bool:
    """Whether somebody listens at the socket: the owner does, also while its engine is started again."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (TimeoutError, BlockingIOError):
            return True  # more wait than can
        except OSError:
            return False
    return True


def write_death(folder: Path, pid: int, code: int) -> None:
    """Record how an engine process ended: its exit code, or its signal as a negative number."""
    for older in sorted(folder.glob("died-*"), key=lambda path: path.stat().st_mtime)[
        :-KEPT_DEATHS
    ]:
        older.unlink(missing_ok=True)
    written = folder / f".died-{pid}"
    written.write_text(str(code))
    written.replace(folder / f"died-{pid}")


def death_of(folder: Path, pid: int) -> int | None:
    """Return how an engine process ended; None where that is not recorded."""
    try:
        return int((folder / f"died-{pid}").read_text())
    except (OSError, ValueError):
        return None
