"""The vectors of an unfinished job, on disk: a run that goes on after another finds what that one made.

The file is one line of JSON, which says whose vectors these are, and rows of one size. Each row begins with a seal: a
hash of that line, of the text and of the vector. So neither a row that a killed process wrote half, nor one of another
text or another model, is ever taken for a text's vector.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from media_jobs.services.targets import Identity
from providers.base import Vectors

BLOCK_ROWS = 1024
SEAL_BYTES = 16
_DTYPE = np.dtype("<f4")


class SpoolBroken(Exception):
    """A row is not its text's vector: two runs wrote the file at once, or it was damaged."""


class Spool:
    """Rows of float32 (dimensions,), all of one identity. Both are None until `begin`."""

    identity: Identity | None = None
    dimensions: int | None = None
    _head = b""
    _rows = 0

    def __init__(self, folder: Path, *, job_id: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{job_id}-rows"
        if self._path.exists():
            self._read_head()

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._rows

    def begin(self, identity: Identity, dimensions: int) -> None:
        """Start afresh, with rows of this identity and size."""
        head = {"identity": asdict(identity), "dimensions": dimensions}
        self._head = json.dumps(head).encode() + b"\n"
        self.identity, self.dimensions, self._rows = identity, dimensions, 0
        self._path.write_bytes(self._head)

    def clear(self) -> None:
        """Forget all that is there."""
        self.identity, self.dimensions, self._rows = None, None, 0
        self._path.unlink(missing_ok=True)

    def keep(self, texts: Iterable[str]) -> None:
        """Cut off the rows from the first that is not the vector of the text at its place."""
        sound = 0
        with contextlib.suppress(SpoolBroken):
            for _ in self.vectors(texts):
                sound += 1
        self._rows = sound
        if not sound:
            self.clear()
            return
        with self._path.open("r+b") as file:
            file.truncate(self._end)

    def append(self, texts: Sequence[str], vectors: Vectors) -> None:
        """Add the vectors of `texts`, float32 (len(texts), dimensions)."""
        rows = np.ascontiguousarray(vectors, dtype=_DTYPE)
        sealed = b"".join(
            self._seal(text, row.tobytes()) + row.tobytes()
            for text, row in zip(texts, rows, strict=True)
        )
        # At their place rather than at the file's end: a run that was overtaken cannot move the other's rows.
        with self._path.open("r+b") as file:
            file.seek(self._end)
            file.write(sealed)
        self._rows += len(rows)

    def vectors(self, texts: Iterable[str]) -> Iterator[Vectors]:
        """Yield each text's vector, float32 (dimensions,), reading block by block. Raises SpoolBroken."""
        rows = self._stored()
        for text in texts:
            row = next(rows, b"")
            vector = row[SEAL_BYTES:]
            if row[:SEAL_BYTES] != self._seal(text, vector):
                raise SpoolBroken
            yield np.frombuffer(vector, dtype=_DTYPE)

    def _read_head(self) -> None:
        with self._path.open("rb") as file:
            self._head = file.readline()
        try:
            head = json.loads(self._head)
            self.identity = Identity(**head["identity"])
            self.dimensions = head["dimensions"]
        except (ValueError, TypeError, KeyError):  # half written, or by another version
            self.clear()
            return
        rest = self._path.stat().st_size - len(self._head)
        self._rows = rest // self._row_bytes

    def _stored(self) -> Iterator[bytes]:
        if not self._rows:
            return
        size = self._row_bytes
        with self._path.open("rb") as file:
            file.seek(len(self._head))
            while block := file.read(BLOCK_ROWS * size):
                for start in range(0, len(block), size):
                    yield block[start : start + size]

    def _seal(self, text: str, vector: bytes) -> bytes:
        seal = hashlib.blake2b(self._head, digest_size=SEAL_BYTES)
        seal.update(text.encode())
        seal.update(vector)
        return seal.digest()

    @property
    def _row_bytes(self) -> int:
        return SEAL_BYTES + (self.dimensions or 0) * _DTYPE.itemsize

    @property
    def _end(self) -> int:
        return len(self._head) + self._rows * self._row_bytes


def discard(folder: Path, job_id: str) -> None:
    """Remove what a job left."""
    for path in folder.glob(f"{job_id}-*"):
        path.unlink(missing_ok=True)
