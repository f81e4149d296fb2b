"""Chunks on their way into the store, kept in an unnamed file: making them may take minutes, storing them must not.

A transaction that was open while they are made would shut every other writer out of SQLite. In memory a long document's
chunks would take as much again as its text and vectors.
"""

import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from media_jobs.vector_store.base import Chunk, checked
from media_jobs.vector_store.vector_bytes import to_bytes

IN_MEMORY_BYTES = 4 * 2**20
HEAD = struct.Struct("<qqqq")  # index, start, end, bytes of text


@dataclass(frozen=True, slots=True)
class SpooledChunk:
    """A chunk as it is stored. `vector`: float32, little-endian."""

    index: int
    start: int
    end: int
    text: str
    vector: bytes


class Spool:
    """What was written, in order."""

    def __init__(self, file: BinaryIO, dimensions: int) -> None:
        self._file = file
        self._dimensions = dimensions

    def write(self, chunks: Iterable[Chunk]) -> None:
        """Take all chunks. Raises ValueError for a vector that does not fit the space."""
        for chunk in chunks:
            vector = to_bytes(checked(chunk.vector, self._dimensions))
            text = chunk.text.encode()
            head = HEAD.pack(chunk.index, chunk.start, chunk.end, len(text))
            self._file.write(head + text + vector)

    def read(self) -> Iterator[SpooledChunk]:
        self._file.seek(0)
        while head := self._file.read(HEAD.size):
            index, start, end, length = HEAD.unpack(head)
            text = self._file.read(length).decode()
            vector = self._file.read(4 * self._dimensions)
            yield SpooledChunk(index, start, end, text, vector)


@contextmanager
def spooled(chunks: Iterable[Chunk], dimensions: int) -> Iterator[Spool]:
    """Read `chunks` to the end, and give them again until the block ends."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as file:
        spool = Spool(file, dimensions)  # type: ignore[arg-type]
        spool.write(chunks)
        yield spool
