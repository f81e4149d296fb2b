"""Bodies as they come in: JSON with its whole numbers as they were sent, and files, streamed to disk within bounds.

Files have no name there, so that nothing of them is left when they are closed, or their process is killed.
"""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, cast

import orjson
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http.multipartparser import MultiPartParser as DjangoMultiPartParser
from django.http.multipartparser import MultiPartParserError
from django.http.request import QueryDict
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from embeddings.api.parsers import JSONParser
from media_jobs.conf import conf

# For the other fields and the boundaries.
FORM_OVERHEAD_BYTES = 2**20
LONG_NUMBER = re.compile(rb"[:\[,\s]-?[0-9]{19,}\s*[,\]}]")


def loads(body: bytes) -> Any:
    """Return what `body` says. Raises JSONDecodeError; ParseError where it nests too deeply."""
    data = orjson.loads(body)  # makes floats of numbers beyond 64 bits
    if not LONG_NUMBER.search(body):
        return data
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ParseError("The body nests too deeply.") from error


class ExactJSONParser(JSONParser):
    """The server's JSON parser, for bodies with numbers that are to be stored as they are."""

    loads = staticmethod(loads)


class FileTooLarge(APIException):
    """The file is over `MEDIA_MAX_BYTES`."""

    status_code = 413
    default_code = "request_too_large"

    def __init__(self) -> None:
        super().__init__(f"The file is over the limit of {conf().max_bytes} bytes.")


class BoundedFile(FileUploadHandler):
    """Write the file to disk as it comes, and give up as soon as it is too large."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self._bytes = 0
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the upload)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self._bytes += len(raw_data)
        if self._bytes > conf().max_bytes:
            self._file.close()
            raise FileTooLarge
        self._file.write(raw_data)

    def file_complete(self, file_size: int) -> "UploadedFile[Any]":
        self._file.flush()
        charset: Any = self.charset  # bytes, whatever Django's types say
        return UploadedFile(
            cast(Any, self._file),
            self.file_name,
            self.content_type,
            file_size,
            charset.decode("latin-1") if charset else None,
            self.content_type_extra,
        )

    def upload_interrupted(self) -> None:
        self._file.close()


class UploadParser(BaseParser):
    """Parse a form with one file, `file`; its other fields are as in the JSON body, `metadata` as JSON text."""

    media_type = "multipart/form-data"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        request = (parser_context or {})["request"]
        meta = {**request.META, "CONTENT_TYPE": media_type or ""}
        announced = meta.get("CONTENT_LENGTH") or ""
        if announced.isdecimal() and int(announced) > (
            conf().max_bytes + FORM_OVERHEAD_BYTES
        ):
            raise FileTooLarge
        try:
            fields, files = DjangoMultiPartParser(
                meta, cast(Any, stream), [BoundedFile(request)], "utf-8"
            ).parse()
        except (MultiPartParserError, OSError) as error:
            raise ParseError("The form is malformed, or ends too early.") from error
        return {**_single(fields), **_single(files)}


@contextmanager
def discarding_files(request: Request) -> Iterator[None]:
    """Remove the request's files in the end, whatever happens."""
    try:
        yield
    finally:
        for value in dict(request.data).values():
            if isinstance(value, UploadedFile):
                value.close()


def parsed_metadata(text: str) -> Any:
    """Return the metadata field of a form. Raises ParseError."""
    try:
        return loads(text.removeprefix("\ufeff").encode())
    except orjson.JSONDecodeError as error:
        raise ParseError(f"metadata is not valid JSON: {error}.") from error


def _single(values: QueryDict | Any) -> dict[str, Any]:
    for name, given in values.lists():
        if len(given) > 1:
            for upload in given:
                if isinstance(upload, UploadedFile):
                    upload.close()
            raise ParseError(f"{name} was sent twice.")
    return {name: given[0] for name, given in values.lists()}
