"""The file formats that are understood, by the ending of the name, and what is read of a file."""

from dataclasses import dataclass
from pathlib import PurePath

TEXT, MARKUP, PDF, DOCX = "text", "html", "pdf", "docx"
FORMATS = {
    ".txt": TEXT,
    ".text": TEXT,
    ".md": TEXT,
    ".markdown": TEXT,
    ".html": MARKUP,
    ".htm": MARKUP,
    ".pdf": PDF,
    ".docx": DOCX,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """The text of a file; `warnings` are plain sentences on what of the file is not in it."""

    text: str
    warnings: tuple[str, ...] = ()


class Unreadable(Exception):
    """The file is not what its name says, or holds no text. The message is public."""


def format_of(filename: str) -> str | None:
    """Return the format that the name's ending means, or None."""
    return FORMATS.get(PurePath(filename).suffix.lower())
