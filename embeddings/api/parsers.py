"""JSON bodies, read strictly and within bounds."""

from collections.abc import Mapping
from typing import IO, Any

import orjson
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

from embeddings.api.content_encoding import (
    CompressedBody,
    DecompressedBody,
    Readable,
    encoding_of,
)
from embeddings.conf import conf

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # put before JSON by some editors and shells


class BodyTooLarge(APIException):
    """The request's body is over `EMBEDDINGS_MAX_BODY_BYTES`."""

    status_code = 413
    default_code = "request_too_large"

    def __init__(self) -> None:
        super().__init__(
            f"The request body is over the limit of {conf().max_body_bytes} bytes."
        )


class JSONParser(BaseParser):
    """Parse a JSON object, compressed or not.

    NaN, lone surrogates, absurd nesting and anything else that is not JSON is refused.
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        request = (parser_context or {}).get("request")
        meta = request.META if request else {}
        self._check_announced(meta)
        encoding = encoding_of(meta.get("HTTP_CONTENT_ENCODING", ""))
        try:
            body = (
                self._read(stream)
                if encoding is None
                else self._decompressed(stream, encoding)
            )
        except OSError as error:  # malformed chunks, or a client that hung up
            raise ParseError("The body ends before it is complete.") from error
        try:
            data = self.loads(body.removeprefix(BYTE_ORDER_MARK))
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is not valid JSON: {error}.") from error
        if not isinstance(data, dict):
            raise ParseError("The body must be a JSON object.")
        return data

    @staticmethod
    def loads(body: bytes) -> Any:
        """Return what `body` says. Raises JSONDecodeError."""
        return orjson.loads(body)

    @staticmethod
    def _check_announced(meta: Mapping[str, Any]) -> None:
        """Refuse at once what would be refused in the end, rather than wait for it."""
        announced = meta.get("CONTENT_LENGTH", "")
        if announced.isdecimal() and int(announced) > conf().max_body_bytes:
            raise BodyTooLarge

    @classmethod
    def _decompressed(cls, stream: Readable, encoding: str) -> bytes:
        """Return what the body holds, which counts against the limit as if it had been sent plain."""
        compressed = CompressedBody(stream)
        try:
            return cls._read(DecompressedBody(compressed, encoding))
        except ParseError:
            # A chunked body is read no further than the limit; that it is too large is the truer reason.
            if compressed.bytes_read > conf().max_body_bytes:
                raise BodyTooLarge from None
            raise

    @staticmethod
    def _read(stream: Readable) -> bytes:
        limit = conf().max_body_bytes
        chunks, size = [], 0
        while chunk := stream.read(min(2**20, limit + 1 - size)):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge
        return b"".join(chunks)
