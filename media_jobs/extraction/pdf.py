"""PDF to text, page by page: what cannot be read of a page costs that page, and is said."""

import io
import logging
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pypdf import PageObject, PdfReader
from pypdf.errors import LimitReachedError, WrongPasswordError
from pypdf.generic import ArrayObject, StreamObject
from pypdf.generic._font import Font

from media_jobs.extraction.file_formats import Extracted, Unreadable

NOT_A_PDF = "The file is not a PDF file that can be read."
LOCKED = "The PDF file is protected by a password."
CUT_SHORT = "The PDF file is cut short or damaged; what was found in it was read."
HEADER_BYTES = 1024  # readers look for the mark so far
OBJECT = re.compile(rb"(\d{1,10})\s+(\d{1,5})\s+obj\b")
CATALOG = re.compile(rb"/Type\s*/Catalog\b")
# What fonts without a map to Unicode give for letters; one by itself is a list's bullet.
UNKNOWN = "[\ufffd\x01-\x08\x0e-\x1f\x7f-\x9f\ue000-\uf8ff]"
UNKNOWN_LETTERS = re.compile(rf"{UNKNOWN}{{2,}}|\w{UNKNOWN}|{UNKNOWN}\w")
UNKNOWN_SHARE = 0.05
# What the parser notes of what it reads well.
HARMLESS = ("fontTools is required", "Ignoring final token", "Ignoring wrong pointing")

_letter_for_space = Font._get_space_char


def _space_of(encoding: object, letters: object) -> str:
    """Name a font's letter for the space, or nothing: in a font that numbers its own letters, 32 may be any."""
    found = _letter_for_space(encoding, letters)  # type: ignore[arg-type]
    return "" if found == " " and isinstance(encoding, str) else found


# Without it, the words of such fonts run together: what pypdf takes for a space's width is another letter's.
Font._get_space_char = staticmethod(_space_of)  # type: ignore[method-assign,assignment]


# What may be said of pages: of one, and of several.
Kind = tuple[str, str]
UNREADABLE = ("is damaged and was left out", "are damaged and were left out")
EXCESSIVE = (
    "is too large to read and was left out",
    "are too large to read and were left out",
)
TEXTLESS = ("has no text; images are not read", "have no text; images are not read")
DAMAGED = ("is damaged, and may be incomplete", "are damaged, and may be incomplete")
MEANINGLESS = (
    "has letters whose meaning its fonts do not say",
    "have letters whose meaning their fonts do not say",
)
KINDS = (UNREADABLE, EXCESSIVE, TEXTLESS, DAMAGED, MEANINGLESS)


def read_pdf(data: bytes) -> Extracted:
    """Return the text of all pages, a blank line between them, and that of a form's fields. Raises Unreadable."""
    said: dict[Kind, list[int]] = defaultdict(list)
    texts = []
    with _logged() as log:
        reader, warnings = _opened(data)
        announced = _announced(reader)
        for number, page in enumerate(_pages(reader), start=1):
            log.clear()
            text, kind = _read(page, log)
            texts.append(text)
            if kind:
                said[kind].append(number)
        fields = _fields(reader, warnings)
    text = "\n\n".join(text.strip("\n") for text in (*texts, fields) if text.strip())
    if not text:
        raise Unreadable(_nothing(said, len(texts)))
    if announced > len(texts):
        warnings.append(
            f"The file is said to have {announced} pages; {len(texts)} were found."
        )
    return Extracted(text=text, warnings=(*warnings, *_sentences(said)))


def _opened(data: bytes) -> tuple[PdfReader, list[str]]:
    """Return a reader, and what is to be said of the whole file. Raises Unreadable."""
    if b"%PDF-" not in data[:HEADER_BYTES] and not OBJECT.search(data):
        raise Unreadable(NOT_A_PDF)
    if reader := _reader(data):
        return reader, []
    if reader := _reader(_completed(data)):
        return reader, [CUT_SHORT]
    raise Unreadable(NOT_A_PDF)


def _reader(data: bytes) -> PdfReader | None:
    """Return a reader that has pages, or None. Raises Unreadable for a locked file."""
    try:
        reader = PdfReader(io.BytesIO(data))
        if not (reader.is_encrypted and not reader.decrypt("")):
            return reader if len(reader.pages) else None
    except WrongPasswordError:
        pass
    except MemoryError:
        raise
    except Exception:  # whatever a broken file makes of the parser
        return None
    raise Unreadable(LOCKED)


def _completed(data: bytes) -> bytes:
    """Add the end that a file lacks which was cut short: the parser then looks for its objects."""
    numbers = [int(found[1]) for found in OBJECT.finditer(data)]
    catalogs = [
        before
        for found in CATALOG.finditer(data)
        for before in list(
            OBJECT.finditer(data, max(0, found.start() - 4096), found.start())
        )[-1:]
    ]
    if not catalogs:
        return data
    root = b"%b %b R" % catalogs[-1].groups()
    size = max(numbers) + 1
    return (
        data
        + b"\nendstream\nendobj\ntrailer\n<< /Size %d /Root %b >>\nstartxref\n0\n%%%%EOF\n"
        % (size, root)
    )


def _announced(reader: PdfReader) -> int:
    try:
        pages: Any = reader.root_object["/Pages"]
        return int(pages["/Count"])
    except Exception:  # it is only compared with what is there
        return 0


def _pages(reader: PdfReader) -> Iterator[PageObject | None]:
    """Yield the pages, None for one that is no page."""
    for index in range(len(reader.pages)):
        try:
            yield reader.pages[index]
        except Exception:  # whatever a broken file makes of the parser
            yield None


def _read(page: PageObject | None, log: list[str]) -> tuple[str, Kind | None]:
    """Return the text of one page, and what is to be said of it."""
    try:
        text = page.extract_text() if page else ""
        is_sound = page and _is_sound(page) and not log
        if not text.strip():
            return "", TEXTLESS if is_sound else UNREADABLE
    except (MemoryError, RecursionError, LimitReachedError):
        return "", EXCESSIVE
    except Exception:  # a page may break any part of the parser, and costs itself alone
        return "", UNREADABLE
    unknown = sum(map(len, UNKNOWN_LETTERS.findall(text)))
    if unknown > UNKNOWN_SHARE * len(text):
        return text, MEANINGLESS
    return text, None if is_sound else DAMAGED


def _fields(reader: PdfReader, warnings: list[str]) -> str:
    """Return what is written into a form's fields, which is no part of any page."""
    try:
        values = reader.get_form_text_fields().values()
    except Exception:  # whatever a broken file makes of the parser
        warnings.append("The form's fields are damaged and were left out.")
        return ""
    return "\n".join(str(value) for value in values if value)


def _is_sound(page: PageObject) -> bool:
    """Whether a page's content is all there, and with it what it needs."""
    contents = page.get("/Contents")
    contents = contents.get_object() if contents is not None else None
    if contents is None:
        return True
    streams = contents if isinstance(contents, ArrayObject) else [contents]
    if not all(_is_whole(stream.get_object()) for stream in streams):
        return False
    return "/Resources" in page or not page.get_contents()


def _is_whole(stream: object) -> bool:
    """Whether a stream can be unpacked to its end: the parser takes what it gets of one that cannot."""
    if not isinstance(stream, StreamObject):
        return False
    if stream.get("/Filter") not in ("/FlateDecode", ["/FlateDecode"]):
        return bool(stream.get_data() or not stream._data.strip())
    try:
        zlib.decompress(stream._data.lstrip(b"\r\n"))
    except zlib.error:
        return not stream._data.strip()
    return True


def _sentences(said: Mapping[Kind, list[int]]) -> Iterator[str]:
    for kind in KINDS:
        if numbers := said.get(kind):
            yield f"{_listed(numbers)} {kind[len(numbers) > 1]}."


def _nothing(said: Mapping[Kind, list[int]], pages: int) -> str:
    if len(said.get(TEXTLESS, ())) == pages:
        return "The PDF file holds no text; scanned pages are not read."
    return "The PDF file holds no text that can be read. " + " ".join(_sentences(said))


def _listed(numbers: Iterable[int]) -> str:
    """Name pages: Page 3; Pages 1, 3-5, 9."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    names = ", ".join("-".join(map(str, run)) for run in runs)
    return f"Page {names}" if names.isdecimal() else f"Pages {names}"


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect what the parser notes: it skips much in silence but for its log."""
    notes: list[str] = []

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not (note := record.getMessage()).startswith(HARMLESS):
                notes.append(note)

    logger, handler = logging.getLogger("pypdf"), Notes(level=logging.WARNING)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield notes
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
