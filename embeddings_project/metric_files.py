"""prometheus_client's files, so that a full disk does not end the process that counts in them."""

import mmap
import os
import struct
from typing import BinaryIO

import structlog

FIRST_BYTES = 2**18  # some 1,300 series
# The longest entry beside its key: lengths, padding, two doubles.
ENTRY_BYTES = 64
HEAD = struct.Struct("i4x")

log = structlog.get_logger(__name__)


def reserve_metric_files() -> None:
    """Have prometheus_client count in files whose space is there. It must count in files already."""
    from prometheus_client import mmap_dict, values

    class ReservedFile(mmap_dict.MmapedDict):
        """A file is written out before it is mapped: a page that finds no space when it is written to is SIGBUS.

        Where there is no space the figures are kept in memory: /metrics lacks this process's, which serves on.
        """

        _f: BinaryIO | None  # type: ignore[assignment]

        def __init__(self, filename: str, read_mode: bool = False) -> None:  # noqa: FBT001, FBT002
            if read_mode or _reserved(filename):
                super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
                return
            self._f, self._fname = None, filename
            self._m, self._capacity = mmap.mmap(-1, FIRST_BYTES), FIRST_BYTES
            self._positions: dict[str, int] = {}
            self._used = HEAD.size
            self._m[: HEAD.size] = HEAD.pack(self._used)

        def _init_value(self, key: str) -> None:
            needed = self._used + len(key.encode()) + ENTRY_BYTES
            while needed > self._capacity:
                self._grow(2 * self._capacity)
            super()._init_value(key)  # type: ignore[no-untyped-call]

        def _grow(self, size: int) -> None:
            if self._f is not None and _has(self._f.fileno(), size):
                self._m = mmap.mmap(self._f.fileno(), size)
            else:
                grown = mmap.mmap(-1, size)
                grown[: self._used] = self._m[: self._used]
                self._m = grown
            self._capacity = size

    vars(values)["MmapedDict"] = ReservedFile


def _reserved(path: str) -> bool:
    """Make the file, or complete it; return whether it has its space."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        return _not_kept(error)
    try:
        has_space = _has(file, FIRST_BYTES)
    finally:
        os.close(file)
    if not has_space:
        os.unlink(path)  # noqa: PTH108  (whoever sums up would stumble over half a file)
    return has_space


def _has(file: int, size: int) -> bool:
    """Write zeros up to `size`; return whether there was space for them."""
    try:
        while (missing := size - os.fstat(file).st_size) > 0:
            os.write(file, bytes(min(missing, 2**16)))
    except OSError as error:
        return _not_kept(error)
    return True


def _not_kept(error: OSError) -> bool:
    log.warning("metrics_kept_in_memory", reason=error.strerror)
    return False
