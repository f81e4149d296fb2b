"""The folder that all processes of one running server share: in the temp folder, made before anything is forked.

Not in DATA_DIR: that may lie on another machine's disk, and the path of a socket ends near 108 bytes.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

LONGEST_PARENT = 60

# The folder of this process's server, which its children know by the fork.
_of_server: list[Path] = []


class ServerFolder:
    """One owner makes it, removes what killed servers of this data folder left, and removes it at the end.

    All its processes lock it for as long as they live: by that a left-over is known, and systemd-tmpfiles passes it by.
    """

    def __init__(
        self, data_dir: Path, *, path: Path | None = None, lock: int = 0
    ) -> None:
        """`path` and `lock`, the descriptor that locks it: those of a program before this one."""
        self._owner = os.getpid()
        if path is None:
            path, lock = _new_folder(data_dir)
        os.set_inheritable(lock, False)  # noqa: FBT003
        self.path, self.lock = path, lock
        _of_server[:] = [path]

    def close(self) -> None:
        """Let go of the folder; its owner removes it."""
        os.close(self.lock)
        if os.getpid() == self._owner:
            _of_server.clear()
            shutil.rmtree(self.path, ignore_errors=True)


def server_folder() -> Path | None:
    """Return the folder that this process shares with its siblings; None outside a server."""
    return _of_server[0] if _of_server else None


def is_served(data_dir: Path) -> bool:
    """Whether a server of this data folder runs on this machine; what killed ones left is removed."""
    folders = Path(_short_parent()).glob(f"{_prefix(data_dir)}*")
    return bool([folder for folder in folders if not remove_left_over(folder)])


def locked(folder: Path) -> int:
    """Lock a folder, and return the descriptor that does for as long as it is open in any process."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def remove_left_over(folder: Path) -> bool:
    """Remove a folder unless a process that locked it lives; return whether none does."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return True  # another user's, or gone by now
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(lock)


def _new_folder(data_dir: Path) -> tuple[Path, int]:
    is_served(data_dir)  # removes what killed servers left
    path = Path(tempfile.mkdtemp(prefix=_prefix(data_dir), dir=_short_parent()))
    return path, locked(path)


def _short_parent() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) <= LONGEST_PARENT else "/tmp"  # noqa: S108


def _prefix(data_dir: Path) -> str:
    name = hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:8]
    return f"embeddings-{name}-"
