"""JSON bodies, read strictly and within bounds."""

from collections.abc import Mapping
from typing import IO, Any

import orjson
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from embeddings.conf import conf


class BodyTooLarge(APIException):
    """The request's body is over `EMBEDDINGS_MAX_BODY_BYTES`."""

    status_code = 413
    default_code = "request_too_large"

    def __init__(self) -> None:
        super().__init__(
            f"The request body is over the limit of {conf().max_body_bytes} bytes."
        )


class JSONParser(BaseParser):
    """Parse a JSON object. NaN, lone surrogates, absurd nesting and anything else that is not JSON is refused."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        self._check_announced((parser_context or {}).get("request"))
        try:
            body = self._read(stream)
        except OSError as error:  # malformed chunks, or a client that hung up
            raise ParseError("The body ends before it is complete.") from error
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is not valid JSON: {error}.") from error
        if not isinstance(data, dict):
            raise ParseError("The body must be a JSON object.")
        return data

    @staticmethod
    def _check_announced(request: Request | None) -> None:
        """Refuse at once what would be refused in the end, rather than wait for it."""
        announced = request.META.get("CONTENT_LENGTH", "") if request else ""
        if announced.isdecimal() and int(announced) > conf().max_body_bytes:
            raise BodyTooLarge

    @staticmethod
    def _read(stream: IO[bytes]) -> bytes:
        limit = conf().max_body_bytes
        chunks, size = [], 0
        while chunk := stream.read(min(2**20, limit + 1 - size)):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge
        return b"".join(chunks)
