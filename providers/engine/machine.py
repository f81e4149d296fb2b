"""What this process may use of the machine, a container's limits (cgroup v2) included. Standard library only."""

import contextlib
import ctypes
import importlib.util
import math
import os
import re
import sys
import threading
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # <malloc.h>
_cores: set[int] = set()  # those of before this process was kept to one


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the cores this process may use: its affinity, and a container's quota if that is less."""
    cores = len(_cores or allowed_cores())
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        pass  # no cgroup v2, or "max": no quota
    return max(cores, 1)


def allowed_cores() -> set[int]:
    """Return the numbers of the cores that this process's affinity allows; of all where there is no such thing."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def keep_to_one_core(number: int) -> None:
    """Have this process and its threads run on one of its cores, the `number`th, counted round and round.

    Threads that take turns, as Python's do, lose a fifth of their time where each turn begins on another core.
    """
    _cores.update(allowed_cores())
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.sched_setaffinity(0, {sorted(_cores)[number % len(_cores)]})


def let_use_all_cores(pid: int) -> None:
    """Undo that for a child of this process, if it is still there."""
    if _cores:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(pid, _cores)


def usable_memory(cgroup: Path = _CGROUP) -> int:
    """Return the bytes of memory of the machine, or a container's limit if that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(memory, int((cgroup / "memory.max").read_text()))
    except (OSError, ValueError):
        return memory


def memory_in_use(proc: Path = Path("/proc/self")) -> int:
    """Return the bytes of memory that this process takes; of what it shares with others, its part. 0: not known."""
    try:
        rollup = (proc / "smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss: +(\d+) kB$", rollup, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def name_thread(name: str) -> None:
    """Have `top -H` and its like show this thread by name (Linux; from 3.14 on Python does so itself)."""
    with contextlib.suppress(OSError):
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)


def yield_to_others(niceness: int) -> None:
    """Let this thread come after the others at the scheduler. On Linux alone a thread has a niceness of its own."""
    if sys.platform == "linux":
        own = threading.get_native_id()
        niceness = max(os.getpriority(os.PRIO_PROCESS, own), niceness)
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, own, niceness)


def map_large_blocks() -> None:
    """Have the C library take each large block from the system and hand it back when it is freed.

    glibc stops doing so for sizes that were freed once, and what bulk needed then stays in its heaps.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def share_one_heap() -> None:
    """Have the C library keep one heap for all threads, where Python lets them work by turns anyway.

    glibc makes one for nearly each thread, and none gives the others what it has free. Before threads start.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def trim_heap() -> None:
    """Let the C library return what it holds of freed memory, 40 MB after bulk; only glibc needs this call."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def has_torch() -> bool:
    """Whether the extra `torch` is installed, without importing it."""
    return importlib.util.find_spec("sentence_transformers") is not None
