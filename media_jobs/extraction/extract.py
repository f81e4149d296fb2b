"""An uploaded file to its text."""

import subprocess
import sys
import tempfile
from pathlib import Path

from django.conf import settings

from embeddings.services.errors import InvalidRequest, UnsupportedFormat
from media_jobs.conf import conf
from media_jobs.extraction.formats import FORMATS, TEXT, format_of
from media_jobs.text import checked, decoded

TIMEOUT_SECONDS = 180
UNREADABLE = 2


def extracted_text(source: Path, *, filename: str) -> str:
    """Return the text of a file. Raises UnsupportedFormat or InvalidRequest."""
    kind = format_of(filename)
    if kind is None:
        known = ", ".join(sorted(ending[1:] for ending in FORMATS))
        raise UnsupportedFormat(
            f"Files named like {Path(filename).name!r} are not understood; known endings: {known}.",
            param="file",
        )
    if source.stat().st_size == 0:
        raise InvalidRequest("file is empty.", param="file")
    if kind == TEXT:
        return checked(decoded(source.read_bytes(), param="file"), param="file")
    return checked(_converted(source, kind), param="file")


def _converted(source: Path, kind: str) -> str:
    with tempfile.TemporaryDirectory(prefix="media-") as folder:
        target = Path(folder) / "text"
        try:
            done = subprocess.run(  # noqa: S603  (no part of it comes from the client)
                [
                    *(sys.executable, "-m", "media_jobs.extraction.child"),
                    *(kind, str(source), str(target)),
                ],
                cwd=settings.BASE_DIR,
                capture_output=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise InvalidRequest(
                "file takes too long to read.", param="file"
            ) from error
        if done.returncode == UNREADABLE:
            sentence = done.stderr.decode(errors="replace").rpartition("\n")[2]
            raise InvalidRequest(sentence, param="file")
        if done.returncode:
            raise InvalidRequest(
                f"The file is not a {kind} file that can be read.", param="file"
            )
        if target.stat().st_size > conf().max_bytes:
            raise InvalidRequest(
                f"file holds more text than {conf().max_bytes} bytes.", param="file"
            )
        return target.read_text(encoding="utf-8")
