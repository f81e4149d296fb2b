"""Convert one file to text: `python -m media_jobs.extraction.child FORMAT SOURCE TARGET`.

Runs in a process of its own, without Django: a file that makes a parser hang, crash or eat memory ends this process and
no other. Exits with 0 when TARGET holds the text in UTF-8, with 2 and a sentence on stderr when the file is no good.
"""

import contextlib
import os
import re
import resource
import sys
import zipfile
from pathlib import Path

CPU_SECONDS = 120
MEMORY_BYTES = 2 * 2**30
NICENESS = 10
# A .docx is a zip file: what it unpacks to is bounded before anything is unpacked.
MAX_UNPACKED_BYTES = 512 * 2**20
BLOCKS = (
    "address,article,aside,blockquote,br,dd,div,dl,dt,fieldset,figcaption,figure,footer,form,h1,h2,h3,h4,h5,h6,header,"
    "hr,li,main,nav,ol,option,p,pre,section,table,td,th,tr,ul"
)
UNSEEN = ["script", "style", "noscript", "template", "svg", "head", "iframe", "object"]
DECLARED_CHARSET = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?([\w.:-]+)""", re.I)


class Unreadable(Exception):
    """The file is not what its name says, or holds no text. The message is public."""


def html_text(source: Path) -> str:
    """Return the text that a browser would show, a blank line between blocks."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(_html_source(source.read_bytes()))
    tree.strip_tags(UNSEEN, recursive=True)
    if tree.body is None:
        return ""
    for node in tree.css(BLOCKS):
        node.insert_before("\n\n")
        node.insert_after("\n\n")
    return _tidy(tree.body.text(deep=True))


def pdf_text(source: Path) -> str:
    """Return the text of all pages, a blank line between them."""
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(source)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("The PDF file is protected by a password.")
        pages = [page.extract_text() for page in reader.pages]
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable("The file is not a PDF file that can be read.") from error
    if not any(page.strip() for page in pages):
        raise Unreadable("The PDF file holds no text; scanned pages are not read.")
    return "\n\n".join(pages)


def docx_text(source: Path) -> str:
    """Return the text of all paragraphs, a blank line between them."""
    import mammoth

    try:
        with zipfile.ZipFile(source) as archive:
            if (
                sum(entry.file_size for entry in archive.infolist())
                > MAX_UNPACKED_BYTES
            ):
                raise Unreadable("The docx file unpacks to too much.")
        with source.open("rb") as file:
            return str(mammoth.extract_raw_text(file).value)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise Unreadable("The file is not a docx file that can be read.") from error


CONVERTERS = {"html": html_text, "pdf": pdf_text, "docx": docx_text}


def main(kind: str, source: Path, target: Path) -> int:
    """Convert, and return the exit code."""
    _limit()
    try:
        text = CONVERTERS[kind](source)
    except Unreadable as error:
        sys.stderr.write(str(error))
        return 2
    except (MemoryError, RecursionError):
        sys.stderr.write("The file takes too much memory to read.")
        return 2
    # Lone surrogates come out of broken font tables; NUL out of broken text layers.
    target.write_bytes(text.replace("\0", "").encode("utf-8", "replace"))
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


def _html_source(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    declared = DECLARED_CHARSET.search(data[:4096])
    if declared and declared[1].lower() not in (b"utf-8", b"utf8"):
        try:
            return data.decode(declared[1].decode("ascii"), "replace")
        except LookupError:
            pass
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("windows-1252", "replace")


def _tidy(text: str) -> str:
    """Fold the white space that markup leaves: none at line ends, one blank line at most."""
    lines = [line.strip() for line in text.replace("\xa0", " ").splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
