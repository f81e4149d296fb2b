"""Compressed request bodies: decompressed while they are read, never further than the reader asks."""

import gzip
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from rest_framework.exceptions import APIException, ParseError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# RFC 9659: the window that zstd may use as a content coding. More would be memory taken at a client's word.
ZSTD_OPTIONS: Mapping[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
ALIASES = {"": "identity", "x-gzip": "gzip"}  # RFC 9110, section 8.4.1.3
CORRUPT = (gzip.BadGzipFile, zlib.error, zstd.ZstdError)


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


class DecompressedBody:
    """What a compressed body holds."""

    def __init__(self, compressed: CompressedBody, encoding: str) -> None:
        self._encoding = encoding
        self._content = DECOMPRESSORS[encoding](compressed)

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, none at the end. Raises ParseError; OSError where the connection breaks."""
        try:
            return self._content.read(size)
        except EOFError as error:
            raise ParseError(
                f"The body's {self._encoding} data ends before it is complete."
            ) from error
        except CORRUPT as error:
            raise ParseError(
                f"The body is not the {self._encoding} data that its Content-Encoding promises."
            ) from error


def _gunzipped(compressed: Any) -> Readable:
    return gzip.GzipFile(fileobj=compressed, mode="rb")


def _unzstd(compressed: Any) -> Readable:
    return zstd.ZstdFile(compressed, options=ZSTD_OPTIONS)


DECOMPRESSORS: Mapping[str, Callable[[Any], Readable]] = {
    "gzip": _gunzipped,
    "zstd": _unzstd,
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
