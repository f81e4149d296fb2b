"""Where the engine process listens: a Unix socket in a folder of its own, which DATA_DIR records.

Not in DATA_DIR itself: the path of a socket ends near 108 bytes, and DATA_DIR may lie on another machine's disk.
"""

import contextlib
import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path

RECORD = "engine.socket"
SOCKET = "engine.sock"
PREFIX = "embeddings-engine-"
BACKLOG = 1024
LONGEST_FOLDER = 60
KEPT_DEATHS = 16
# Exit codes of an engine that was stopped or killed from outside: by us, by the kernel, by an operator.
STOPPED = frozenset({0, -signal.SIGTERM, -signal.SIGKILL, -signal.SIGINT})
HUNG = 70

# The socket that this process's parent listens at: it comes before the record, which another server may replace.
_of_parent: list[Path] = []


class Place:
    """A listening socket and its folder; one owner makes it, and hands it to each engine process it starts."""

    def __init__(
        self, data_dir: Path, *, path: Path | None = None, listener: int = 0
    ) -> None:
        """`path` and `listener`, a file descriptor: those of a program before this one."""
        self._record = data_dir / RECORD
        self._owner = os.getpid()
        if path is None:
            _remove_left_over(self._record)
            folder = tempfile.mkdtemp(prefix=PREFIX, dir=_short_folder())
            path = Path(folder) / SOCKET
            self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listener.bind(str(path))
            path.chmod(0o600)
            self.listener.listen(BACKLOG)
        else:
            self.listener = socket.socket(fileno=listener)
            self.listener.set_inheritable(False)
        self.path, self._folder = path, path.parent
        written = self._record.with_suffix(f".{self._owner}")
        written.write_text(str(self.path))
        written.replace(self._record)
        _of_parent[:] = [self.path]

    def close(self) -> None:
        """Stop listening, and remove the folder."""
        self.listener.close()
        if os.getpid() != self._owner:
            return
        with contextlib.suppress(OSError):
            if self._record.read_text() == str(self.path):
                self._record.unlink()
        shutil.rmtree(self._folder, ignore_errors=True)


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


def _short_folder() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) <= LONGEST_FOLDER else "/tmp"  # noqa: S108


def _remove_left_over(record: Path) -> None:
    """Remove the folder of a server that was killed."""
    with contextlib.suppress(OSError):
        path = Path(record.read_text())
        if path.parent.name.startswith(PREFIX) and not listens(path):
            shutil.rmtree(path.parent, ignore_errors=True)
