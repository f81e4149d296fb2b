"""How long clients may take, and how much they may hold."""

import resource
import threading
from dataclasses import dataclass
from pathlib import Path

from embeddings_project.env import Env

GRACE_SECONDS = 10.0  # before the least rate counts
SPARE_FILES = 512  # for the database, models, files and connections to others


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontConf:
    """The settings of one process. `spool_bytes`: its share of bodies under way; rates are in bytes a second."""

    header_seconds: float
    body_seconds: float
    write_seconds: float
    min_rate: int
    max_connections: int
    spool_bytes: int
    drain_seconds: int
    folder: Path
    shared_addresses: bool  # connections come from proxies: an address is no client


def read_front(
    env: Env, *, processes: int, largest_body: int, folder: Path, shared_addresses: bool
) -> FrontConf:
    """Return the settings of each of so many processes. The spool is theirs together, but each holds one body of the
    largest size."""
    spool = env.integer("HTTP_SPOOL_BYTES", 512 * 2**20, minimum=2**20, maximum=2**40)
    return FrontConf(
        header_seconds=env.seconds("HTTP_HEADER_TIMEOUT", 10, maximum=3600),
        body_seconds=env.seconds("HTTP_BODY_TIMEOUT", 60, maximum=3600),
        write_seconds=env.seconds("HTTP_WRITE_TIMEOUT", 60, maximum=3600),
        min_rate=env.integer("HTTP_MIN_RATE", 1000, minimum=0, maximum=10**9),
        max_connections=env.integer(
            "HTTP_MAX_CONNECTIONS", 8192, minimum=2, maximum=10**6
        ),
        spool_bytes=max(spool // processes, largest_body),
        drain_seconds=env.integer("DRAIN_SECONDS", 30, minimum=1, maximum=86400),
        folder=folder,
        shared_addresses=shared_addresses,
    )


def raise_file_limit(wanted: int) -> int:
    """Let this process open as many files as it may; return how many of `wanted` connections that allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(soft, wanted + SPARE_FILES)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, min(wanted, hard - min(SPARE_FILES, hard // 2)))


class Pace:
    """How fast a body comes or an answer goes: whoever rests too long, or is too slow for too long, is too slow.

    Progress is what keeps up with the least rate, not a byte now and then.
    """

    __slots__ = ("_began_at", "_marked", "_marked_at", "_rate", "_seconds", "_total")

    def __init__(self, *, rate: int, seconds: float, now: float) -> None:
        self._rate, self._seconds = rate, seconds
        self._began_at = self._marked_at = now
        self._total = self._marked = 0

    def note(self, size: int, now: float) -> None:
        """Count bytes that came or went."""
        self._total += size
        if self._total - self._marked >= self._rate * self._seconds:
            self._marked, self._marked_at = self._total, now

    def too_slow(self, now: float) -> bool:
        took = now - self._began_at
        return now - self._marked_at > self._seconds or (
            took > GRACE_SECONDS and self._total < self._rate * took
        )


class Budget:
    """Bytes of bodies under way, in memory or on disk, over all connections of this process."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Count `size` bytes, or return False where they are too many."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        """Forget bytes that are gone."""
        with self._lock:
            self._left += size
