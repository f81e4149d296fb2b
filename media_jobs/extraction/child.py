"""Read one file's text: `python -m media_jobs.extraction.child FORMAT CHARSET MAX_BYTES <FILE`.

Runs in a process of its own, without Django: a file that makes a parser hang, crash or eat memory ends this process and
no other. Writes the warnings as one line of JSON, and behind it the text in UTF-8. Exits with UNREADABLE and a sentence
on stderr when the file is no good, with TOO_COMPLEX when it takes too much memory.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import BinaryIO

from media_jobs.extraction.file_formats import DOCX, MARKUP, PDF, Extracted, Unreadable

UNREADABLE = 2
TOO_COMPLEX = 3
CPU_SECONDS = 120
MEMORY_BYTES = 2 * 2**30
NICENESS = 10
MAX_WARNINGS = 50
PR_SET_PDEATHSIG = 1


def _html(file: BinaryIO, charset: str) -> Extracted:
    from media_jobs.extraction.html import read_html

    return read_html(file.read(), charset)


def _pdf(file: BinaryIO, charset: str) -> Extracted:
    from media_jobs.extraction.pdf import read_pdf

    return read_pdf(file.read())


def _docx(file: BinaryIO, charset: str) -> Extracted:
    from media_jobs.extraction.docx import read_docx

    return read_docx(file)


# Each imports its parser when it is needed.
CONVERTERS: dict[str, Callable[[BinaryIO, str], Extracted]] = {
    MARKUP: _html,
    PDF: _pdf,
    DOCX: _docx,
}


def main(kind: str, charset: str, max_bytes: int) -> int:
    """Convert, and return the exit code."""
    # What a parser may print goes with the errors.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _limit()
    try:
        read = CONVERTERS[kind](sys.stdin.buffer, charset)
        # Lone surrogates come out of broken font tables; NUL out of broken text layers.
        text = read.text.replace("\0", "").encode("utf-8", "replace")
        if len(text) > max_bytes:
            raise Unreadable(f"file holds more text than {max_bytes} bytes.")
    except Unreadable as error:
        sys.stderr.write(f"\n{error}")
        return UNREADABLE
    except (MemoryError, RecursionError):
        return TOO_COMPLEX
    warnings = list(read.warnings[:MAX_WARNINGS])
    if more := len(read.warnings) - len(warnings):
        warnings.append(f"There are {more} more warnings.")
    with answer:
        answer.write(json.dumps(warnings).encode() + b"\n" + text)
    return 0


def _limit() -> None:
    os.nice(NICENESS)
    for limit, value in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
    ):
        _, hard = resource.getrlimit(limit)
        # Not every system has every limit, and a lower one may stand already.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, hard))
    # Where the system can: end with the thread that waits for this.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
