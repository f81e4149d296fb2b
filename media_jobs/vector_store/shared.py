"""The matrices that all processes of a server share, and one of its own where they cannot."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import structlog

from media_jobs.vector_store.matrix import (
    Block,
    Count,
    Keep,
    Matrix,
    MatrixMemory,
    Refresh,
    row_bytes,
)
from media_jobs.vector_store.rows import VectorSpace
from media_jobs.vector_store.space_files import Mapped, SpaceFiles, locked

# A reload may bring another version of this program beside the one whose files there are.
FORMAT = 2
# To read a whole space takes seconds; one that takes longer is stopped, or hangs.
LOCK_SECONDS = 30.0
# No search is under way for so long. One that sees an older version than a copy of that age sees a database that was
# put back to an earlier state.
PUT_BACK_NS = 60 * 10**9

log = structlog.get_logger(__name__)


class SharedMatrices:
    """Matrices in files below `folder`, of the spaces of one database: bounded over all processes, least recently used
    out first, each refreshed by one thread of one process.

    Where the folder is full, gone or locked for too long, a process holds a copy of its own in `MatrixMemory`.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        *,
        database: Sequence[str],
        lock_seconds: float = LOCK_SECONDS,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._database = tuple(database)
        self._lock_seconds = lock_seconds
        self._clock_ns = clock_ns
        self._own = MatrixMemory(max_bytes)
        self._mapped: dict[int, Mapped] = {}

    def get(self, space: VectorSpace) -> Matrix | None:
        """Return the matrix of exactly the space's version."""
        mapped = self._known(self._files(space), space)
        if mapped is None or mapped.matrix.version != space.version:
            return self._own.get(space)
        if not mapped.is_current:
            return None
        mapped.files.note_use(self._clock_ns())
        return mapped.matrix

    def refreshed(
        self, space: VectorSpace, count: Count, refresh: Refresh
    ) -> Matrix | None:
        """Return the matrix of the space's version, or None where it cannot be held: see `MatrixMemory`."""
        files = self._files(space)
        with ExitStack() as stack:
            try:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                stack.enter_context(files.locked(self._lock_seconds))
            except OSError as error:
                log.warning("search_memory_not_shared", reason=repr(error))
                return self._own.refreshed(space, count, refresh)
            matrix = self._refreshed(files, space, count, refresh)
        self._evict()
        return matrix

    @property
    def size_bytes(self) -> int:
        """How much all of them take on this machine, and the copies of this process."""
        return self.shared_bytes + self._own.size_bytes

    @property
    def shared_bytes(self) -> int:
        return sum(files.size_bytes() for files in self._spaces())

    def _refreshed(
        self, files: SpaceFiles, space: VectorSpace, count: Count, refresh: Refresh
    ) -> Matrix | None:
        shared = files.load(space.dimensions, self._known(files, space))
        self._note(files, space, shared)
        both = (shared.matrix if shared else None, self._own.held(space.pk))
        held = max(filter(None, both), key=lambda matrix: matrix.version, default=None)
        if held and held.version > space.version:
            if not shared or not self._was_put_back(shared):
                return None
            held = None
        if held and held.version == space.version:
            return held
        if count(space) * row_bytes(space.dimensions) > self._max_bytes:
            self._own.drop(space.pk)
            self._note(files, space, None)
            files.sweep(None)
            return None
        return self._brought(
            files, space, shared, lambda keep: refresh(held, space, keep)
        )

    def _brought(
        self,
        files: SpaceFiles,
        space: VectorSpace,
        shared: Mapped | None,
        refresh: Callable[[Keep], Matrix],
    ) -> Matrix:
        """Refresh a matrix and publish it, or hold it alone where that fails."""
        problems: list[OSError] = []

        def keep(block: Block) -> Block:
            try:
                return files.kept(block)
            except OSError as error:
                problems.append(error)
                return block

        matrix = refresh(keep)
        try:
            if problems:
                raise problems[0]
            shared = files.publish(matrix, self._clock_ns())
            self._note(files, space, shared)
        except OSError as error:
            log.warning("search_memory_not_shared", reason=repr(error))
            self._own.hold(space.pk, matrix.without_files())
        files.sweep(shared.matrix if shared else None)
        return matrix

    def _evict(self) -> None:
        """Remove the spaces that were searched least recently, and let go of what is there no more."""
        try:
            with locked(self._folder, self._lock_seconds):
                by_use = sorted(self._spaces(), key=SpaceFiles.used_at_ns)
                excess = self.shared_bytes - self._max_bytes
                for files in by_use[:-1]:
                    if excess > 0:
                        excess -= removed_bytes(files)
        except OSError as error:
            log.warning("search_memory_not_bounded", reason=repr(error))
        for pk, mapped in [*self._mapped.items()]:
            if not mapped.is_current:
                self._mapped.pop(pk, None)

    def _was_put_back(self, shared: Mapped) -> bool:
        return self._clock_ns() - shared.stamp.written_at_ns > PUT_BACK_NS

    def _note(
        self, files: SpaceFiles, space: VectorSpace, mapped: Mapped | None
    ) -> None:
        if mapped is None:
            self._mapped.pop(space.pk, None)
            return
        self._mapped[space.pk] = mapped
        files.note_use(self._clock_ns())
        own = self._own.held(space.pk)
        if own and own.version <= mapped.matrix.version:
            self._own.drop(space.pk)

    def _known(self, files: SpaceFiles, space: VectorSpace) -> Mapped | None:
        mapped = self._mapped.get(space.pk)
        return mapped if mapped and mapped.files == files else None

    def _files(self, space: VectorSpace) -> SpaceFiles:
        of = [FORMAT, *self._database, space.pk, space.vector_space, space.dimensions]
        name = hashlib.sha256(json.dumps(of).encode()).hexdigest()[:32]
        return SpaceFiles(folder=self._folder / name)

    def _spaces(self) -> list[SpaceFiles]:
        return [SpaceFiles(folder=lock.parent) for lock in self._folder.glob("*/lock")]


def removed_bytes(files: SpaceFiles) -> int:
    """Remove a matrix unless others are at it, and return what it took."""
    size = files.size_bytes()
    try:
        with files.locked(0):
            files.sweep(None)
    except TimeoutError:
        return 0
    return size
