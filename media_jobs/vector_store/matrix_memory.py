"""The spaces that a process holds in memory: bounded, least recently used out first, refreshed one thread at a time."""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable

from media_jobs.vector_store.matrix import Matrix, row_bytes
from media_jobs.vector_store.rows import VectorSpace


class MatrixMemory:
    """Matrices by the id of their space."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._matrices: OrderedDict[int, Matrix] = OrderedDict()
        self._refreshing: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)

    def get(self, space_id: int, version: int) -> Matrix | None:
        """Return the matrix of exactly that version."""
        held = self._held(space_id)
        return held if held and held.version == version else None

    def refreshed(
        self,
        space: VectorSpace,
        count: Callable[[VectorSpace], int],
        refresh: Callable[[Matrix | None, VectorSpace], Matrix],
    ) -> Matrix | None:
        """Return the matrix of the space's version, or None where it cannot be held.

        That is: it is too large, or another thread's is of a later moment than the caller's snapshot.
        """
        with self._lock:
            refreshing = self._refreshing[space.pk]
        with refreshing:
            held = self._held(space.pk)
            if held and held.version >= space.version:
                return held if held.version == space.version else None
            if count(space) * row_bytes(space.dimensions) > self._max_bytes:
                self._drop(space.pk)
                return None
            matrix = refresh(held, space)
            self._hold(space.pk, matrix)
            return matrix

    @property
    def size_bytes(self) -> int:
        with self._lock:
            return self._size()

    def _held(self, space_id: int) -> Matrix | None:
        with self._lock:
            if space_id in self._matrices:
                self._matrices.move_to_end(space_id)
            return self._matrices.get(space_id)

    def _hold(self, space_id: int, matrix: Matrix) -> None:
        with self._lock:
            self._matrices[space_id] = matrix
            self._matrices.move_to_end(space_id)
            while len(self._matrices) > 1 and self._size() > self._max_bytes:
                self._matrices.popitem(last=False)

    def _drop(self, space_id: int) -> None:
        with self._lock:
            self._matrices.pop(space_id, None)

    def _size(self) -> int:
        return sum(matrix.size_bytes for matrix in self._matrices.values())
