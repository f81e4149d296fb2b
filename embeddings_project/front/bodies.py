"""The body of a request, read whole before the application is called: small in memory, large in a file."""

import re
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO

from embeddings_project.front.limits import Budget, Pace
from embeddings_project.front.refusals import Refused, busy

FREE_BYTES = 2**16  # read of anybody, and not counted
IN_MEMORY_BYTES = 2**20
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")
MAX_CHUNK_LINE_BYTES = 4096
MAX_TRAILER_BYTES = 8190


class Incoming:
    """A body as it comes. `length` is None where it comes in chunks; beyond `most` bytes it is refused with `over`."""

    def __init__(
        self,
        *,
        length: int | None,
        most: int,
        over: Refused,
        budget: Budget,
        folder: Path,
        pace: Pace,
    ) -> None:
        self.size = 0
        self.whole = False
        self.pace = pace
        self._most, self._over = most, over
        self._budget = budget
        self._counted = 0
        self._framing = Chunks() if length is None else Length(length)
        self._file: IO[bytes] = SpooledTemporaryFile(  # noqa: SIM115  (closed with the body)
            max_size=IN_MEMORY_BYTES, dir=str(folder)
        )

    def feed(self, data: bytes) -> bytes:
        """Take what came; return what is left once the body is whole. Raises Refused."""
        pieces, rest = self._framing.feed(data)
        self.whole = self._framing.whole
        for piece in pieces:
            self._keep(piece)
        return rest

    def file(self) -> IO[bytes]:
        """Return the whole body, to be read from its start."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file.close()
        self._budget.give(self._counted)
        self._counted = 0

    def _keep(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._most:
            raise self._over
        if self.size > FREE_BYTES:
            more = self.size - self._counted
            if not self._budget.take(more):
                raise busy("Too many large bodies are under way; try again.")
            self._counted += more
        try:
            self._file.write(piece)
        except OSError as error:  # the disk is full
            raise busy("The body cannot be kept now; try again.") from error


class Length:
    """A body of a known length."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.whole = length == 0

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Return the body's part of `data`, and what follows it."""
        mine, rest = data[: self._left], data[self._left :]
        self._left -= len(mine)
        self.whole = self._left == 0
        return [mine], rest


class Chunks:
    """A body in chunks. One that is malformed raises Refused."""

    def __init__(self) -> None:
        self.whole = False
        self._raw = b""
        self._left = 0  # of the chunk under way
        self._ends_chunk = False  # its line end is what comes next
        self._trailer_bytes: int | None = None  # of the trailers, once they begin

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Return the pieces of the body in `data`, and what follows the body."""
        raw, at = self._raw + data, 0
        pieces: list[bytes] = []
        while not self.whole:
            if self._left:
                piece = raw[at : at + self._left]
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._ends_chunk = self._left == 0
                continue
            end = raw.find(b"\r\n", at, at + MAX_CHUNK_LINE_BYTES + 2)
            if end < 0:
                self._check_begun(raw[at:])
                break
            self._line(raw[at:end])
            at = end + 2
        self._raw = b"" if self.whole else raw[at:]
        return pieces, raw[at:] if self.whole else b""

    def _check_begun(self, line: bytes) -> None:
        if len(line) > MAX_CHUNK_LINE_BYTES or b"\n" in line:
            raise _malformed()
        if self._ends_chunk and line not in (b"", b"\r"):
            raise _malformed()
        expects_size = self._trailer_bytes is None and not self._ends_chunk
        if expects_size and line and not CHUNK_SIZE.fullmatch(line.removesuffix(b"\r")):
            raise _malformed()

    def _line(self, line: bytes) -> None:
        if self._ends_chunk:
            if line:
                raise _malformed()
            self._ends_chunk = False
        elif self._trailer_bytes is not None:
            self._trailer(line)
        elif match := CHUNK_SIZE.fullmatch(line):
            self._left = int(match[1], 16)
            self._trailer_bytes = None if self._left else 0
        else:
            raise _malformed()

    def _trailer(self, line: bytes) -> None:
        """Pass over a trailer: nothing here reads one. The empty line is the body's end."""
        self._trailer_bytes = (self._trailer_bytes or 0) + len(line)
        if self._trailer_bytes > MAX_TRAILER_BYTES:
            raise Refused(431, "The trailers are too large.")
        if line and not TRAILER.fullmatch(line):
            raise _malformed()
        self.whole = not line


def _malformed() -> Refused:
    return Refused(400, "The body's chunks are malformed.")
