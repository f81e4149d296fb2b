"""The vectors of an unfinished job, on disk: a run that goes on after another finds what that one made.

Rows are appended whole and counted by the file's size, so what a killed process wrote half is cut off.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from providers.base import Vectors

BLOCK_ROWS = 1024
_DTYPE = np.dtype("<f4")


class Spool:
    """float32 (rows, dimensions), growing. `key` names what the vectors are of: another key starts afresh.

    The file's name ends in the dimensions, which the first vectors decide.
    """

    def __init__(self, folder: Path, *, job_id: str, key: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._stem = folder / f"{job_id}-{key}"
        self.dimensions: int | None = None
        for path in folder.glob(f"{job_id}-*"):
            if path.stem.startswith(f"{self._stem.name}-") and self.dimensions is None:
                self.dimensions = int(path.stem.rpartition("-")[2])
            else:
                path.unlink()
        if self.dimensions:
            with self._path.open("r+b") as file:
                file.truncate(len(self) * self._row_bytes)

    def __len__(self) -> int:
        """Return the number of whole rows."""
        return self._path.stat().st_size // self._row_bytes if self.dimensions else 0

    def append(self, vectors: Vectors) -> None:
        """Add rows, float32 (n, dimensions). Raises ValueError for rows of another size than the first."""
        if self.dimensions is None:
            self.dimensions = vectors.shape[1]
        if vectors.shape[1] != self.dimensions:
            raise ValueError("The model changed the size of its vectors on the way.")
        with self._path.open("ab") as file:
            file.write(np.ascontiguousarray(vectors, dtype=_DTYPE).tobytes())

    def rows(self) -> Iterator[Vectors]:
        """Yield each row, float32 (dimensions,), reading block by block."""
        with self._path.open("rb") as file:
            while block := file.read(BLOCK_ROWS * self._row_bytes):
                yield from np.frombuffer(block, dtype=_DTYPE).reshape(
                    -1, self.dimensions or 0
                )

    @property
    def _path(self) -> Path:
        return self._stem.with_name(f"{self._stem.name}-{self.dimensions}.f32")

    @property
    def _row_bytes(self) -> int:
        return (self.dimensions or 0) * _DTYPE.itemsize


def discard(folder: Path, job_id: str) -> None:
    """Remove what a job left."""
    for path in folder.glob(f"{job_id}-*"):
        path.unlink(missing_ok=True)
