"""The file formats that are understood, by the ending of the name."""

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


def format_of(filename: str) -> str | None:
    """Return the format that the name's ending means, or None."""
    return FORMATS.get(PurePath(filename).suffix.lower())
