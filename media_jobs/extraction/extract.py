"""A file to its text."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

import structlog
from django.conf import settings

from embeddings.services.errors import InvalidRequest, UnsupportedFormat
from media_jobs.conf import conf
from media_jobs.extraction import encodings
from media_jobs.extraction.child import (
    CPU_SECONDS,
    MEMORY_BYTES,
    TOO_COMPLEX,
    UNREADABLE,
)
from media_jobs.extraction.file_formats import FORMATS, TEXT, Extracted, format_of
from media_jobs.extraction.slots import slot
from media_jobs.text import checked
from providers.engine.machine import let_use_all_cores
from providers.exceptions import Abandoned
from providers.waiting import caller_left

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 180
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 15
BEYOND = (
    f"file is too large or too complex to read within {CPU_SECONDS} seconds of processor time "
    f"and {MEMORY_BYTES // 2**30} GiB of memory."
)


def extracted(
    file: BinaryIO,
    *,
    filename: str,
    charset: str = "",
    patience: float = PATIENCE_SECONDS,
) -> Extracted:
    """Return the text of an open file on disk; `charset`: what came with it said, if anything.

    Waits up to `patience` seconds for its turn. Raises UnsupportedFormat, InvalidRequest, Busy, or Abandoned when the
    client left.
    """
    kind = format_of(filename)
    if kind is None:
        known = ", ".join(sorted(ending[1:] for ending in FORMATS))
        raise UnsupportedFormat(
            f"Files named like {Path(filename).name!r} are not understood; known endings: {known}.",
            param="file",
        )
    if os.fstat(file.fileno()).st_size == 0:
        raise InvalidRequest("file is empty.", param="file")
    file.seek(0)
    charset = charset if charset.isascii() and charset.isprintable() else ""
    if kind == TEXT:
        read = plain_text(file.read(), charset)
    else:
        with slot(conf().work_dir, conf().extractions, patience=patience) as handle:
            read = _converted(file, kind, charset, handle)
    checked(read.text, param="file")
    return read


def plain_text(data: bytes, charset: str) -> Extracted:
    """Return the text of a text file: as its mark, else its charset, else UTF-8 says. Raises InvalidRequest."""
    try:
        codec = encodings.codec_of(charset)
    except encodings.UnsafeEncoding as error:
        raise InvalidRequest(str(error), param="file") from error
    read = encodings.marked(data)
    if read is None and codec and codec != "utf-8":
        read = encodings.decode(data, codec, declared=True)
    # Clients say UTF-8 of what they never looked at.
    read = read or encodings.unmarked(data)
    if "\0" in (read.text if read else data.decode("latin-1")):
        raise InvalidRequest("file is binary, not text.", param="file")
    if read is None:
        raise InvalidRequest(
            "file is not text in UTF-8 (nor in UTF-16 or UTF-32 with a byte order mark); save it in UTF-8, or name its "
            "encoding in the part's Content-Type, as in text/plain; charset=windows-1252.",
            param="file",
        )
    return Extracted(text=read.text, warnings=read.warnings)


def _converted(file: BinaryIO, kind: str, charset: str, handle: int) -> Extracted:
    """Read a file in a process of its own, which holds the slot `handle` as long as it lives."""
    os.lseek(
        file.fileno(), 0, os.SEEK_SET
    )  # a buffered file's own seek need not move it
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(  # noqa: S603  (of the client's only a charset is in it)
            [
                *(sys.executable, "-m", "media_jobs.extraction.child"),
                *(kind, charset, str(conf().max_bytes)),
            ],
            cwd=settings.BASE_DIR,
            stdin=file,
            stdout=answer,
            stderr=errors,
            pass_fds=(handle,),
        )
        let_use_all_cores(child.pid)
        status = _ended(child)
        if status == 0:
            answer.seek(0)
            warnings = json.loads(answer.readline())
            return Extracted(text=answer.read().decode(), warnings=tuple(warnings))
        if status == UNREADABLE:
            errors.seek(0)
            sentence = errors.read().decode(errors="replace").rpartition("\n")[2]
            raise InvalidRequest(sentence, param="file")
    if status < 0 or status == TOO_COMPLEX:
        log.warning("extraction_beyond_limits", kind=kind, status=status)
        raise InvalidRequest(BEYOND, param="file")
    log.warning("extraction_failed", kind=kind, status=status)
    raise InvalidRequest(
        f"The file is not a {kind} file that can be read.", param="file"
    )


def _ended(child: subprocess.Popen[bytes]) -> int:
    """Wait for the child, and return its status. Raises InvalidRequest or Abandoned, after which there is none."""
    until = time.monotonic() + TIMEOUT_SECONDS
    try:
        while True:
            try:
                return child.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if caller_left.get()():
                    raise Abandoned("The client closed the connection.") from None
                if time.monotonic() > until:
                    raise InvalidRequest(
                        f"file is too large or too complex to read within {TIMEOUT_SECONDS} seconds.",
                        param="file",
                    ) from None
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
