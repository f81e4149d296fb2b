"""Compressed request bodies: decompressed while they are read, never further than the reader asks."""

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

from rest_framework.exceptions import APIException, ParseError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# RFC 9659: the window that zstd may use as a content coding. More would be memory taken at a client's word.
ZSTD_OPTIONS: Mapping[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
ALIASES = {"": "identity", "x-gzip": "gzip"}  # RFC 9110, section 8.4.1.3
CORRUPT = (zlib.error, zstd.ZstdError)
PIECE_BYTES = 2**16
# Each is a new decompressor: an empty one takes 20 bytes to send and microseconds to begin.
MAX_MEMBERS = 1000


class Readable(Protocol):
    """What can be read piece by piece."""

    def read(self, size: int, /) -> bytes: ...


class UnsupportedEncoding(APIException):
    """The body is compressed in a way that is not read here."""

    status_code = 415
    headers: ClassVar[Mapping[str, str]] = {"Accept-Encoding": "gzip, zstd, identity"}

    def __init__(self) -> None:
        super().__init__(
            "The body's Content-Encoding must be gzip, zstd or identity, one of them only."
        )


class CompressedBody:
    """A body as it came, and how much of it was read."""

    def __init__(self, stream: Readable) -> None:
        self.bytes_read = 0
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        piece = self._stream.read(size)
        self.bytes_read += len(piece)
        return piece


class Decompressor(Protocol):
    """One member of gzip data, one frame of zstd data."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, size: int, /) -> bytes: ...


class DecompressedBody:
    """What a compressed body holds: one member after the other, but not millions of empty ones."""

    def __init__(self, compressed: CompressedBody, encoding: str) -> None:
        self._encoding = encoding
        self._compressed = compressed
        self._rest = b""
        self._member: Decompressor | None = None
        self._members = 0

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end. Raises ParseError; OSError where the connection breaks."""
        try:
            while member := self._current():
                if content := self._decompress(member, size):
                    return content
        except CORRUPT as error:
            raise ParseError(
                f"The body is not the {self._encoding} data that its Content-Encoding promises."
            ) from error
        return b""

    def _current(self) -> Decompressor | None:
        """Return the member under way, else the next one; None at the end."""
        if self._member is not None:
            return self._member
        if not self._rest:
            self._rest = self._compressed.read(PIECE_BYTES)
        if self._rest:
            self._members += 1
            if self._members > MAX_MEMBERS:
                raise ParseError(
                    f"The body's {self._encoding} data is made of more than {MAX_MEMBERS} parts."
                )
            self._member = DECOMPRESSORS[self._encoding]()
        return self._member

    def _decompress(self, member: Decompressor, size: int) -> bytes:
        """Return the next content of the member, none if it needs more of the body or ended."""
        content = member.decompress(self._rest, size)
        if member.eof:
            self._rest, self._member = member.unused_data, None
        else:
            self._rest = getattr(member, "unconsumed_tail", b"")
            if not content:
                self._rest += self._more()
        return content

    def _more(self) -> bytes:
        more = self._compressed.read(PIECE_BYTES)
        if not more:
            raise ParseError(
                f"The body's {self._encoding} data ends before it is complete."
            )
        return more


DECOMPRESSORS: Mapping[str, Callable[[], Decompressor]] = {
    "gzip": lambda: zlib.decompressobj(wbits=16 + zlib.MAX_WBITS),
    "zstd": lambda: zstd.ZstdDecompressor(options=ZSTD_OPTIONS),
}


def encoding_of(header: str) -> str | None:
    """Return the one encoding that Content-Encoding names, None for a plain body. Raises UnsupportedEncoding."""
    given = header.strip().lower()
    encoding = ALIASES.get(given, given)
    if encoding == "identity":
        return None
    if encoding not in DECOMPRESSORS:
        raise UnsupportedEncoding
    return encoding
