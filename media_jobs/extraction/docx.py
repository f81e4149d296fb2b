"""docx to text: the parts of the archive that hold text, each as it stands, the notes behind the main text.

Nothing is resolved that gives no text (styles, links, images), so that what dangles there costs nothing.
"""

import posixpath
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import unquote
from xml.etree import ElementTree

from media_jobs.extraction.docx_text import Story
from media_jobs.extraction.file_formats import Extracted, Unreadable

# A .docx is a zip file: what it unpacks to is bounded before anything is unpacked.
MAX_UNPACKED_BYTES = 512 * 2**20
BLOCK_BYTES = 2**10  # small, since what is before a damage in a block goes with it
OLD_WORD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
NOT_A_DOCX = "The file is not a docx file that can be read."
BROKEN = (
    *(zipfile.BadZipFile, zlib.error, ElementTree.ParseError),
    # An unknown compression, a locked entry, an encoding that Python lacks, a cut-off stream.
    *(NotImplementedError, RuntimeError, LookupError, ValueError, EOFError, OSError),
)
# The last word of a relationship's type, what is behind it, whether it repeats itself.
BEHIND = {
    "footnotes": "the footnotes",
    "endnotes": "the endnotes",
    "diagramData": "a diagram",
    "chart": "a chart",
    "header": "a header",
    "footer": "a footer",
}


def read_docx(file: BinaryIO) -> Extracted:
    """Return the text of a docx. Raises Unreadable."""
    try:
        archive = zipfile.ZipFile(file)
    except BROKEN as error:
        raise Unreadable(_reason(file)) from error
    with archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED_BYTES:
            raise Unreadable("The docx file unpacks to too much.")
        return _Package(archive).extracted()


def _reason(file: BinaryIO) -> str:
    file.seek(0)
    data = file.read()
    if not data.startswith(OLD_WORD):
        return NOT_A_DOCX
    if ENCRYPTED in data:
        return "The docx file is protected by a password."
    return "The file is a document of an old Word (.doc); save it as docx."


class _Package:
    """The parts of one docx."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._entries = {_key(info.filename): info for info in archive.infolist()}
        self._warnings: list[str] = []

    def extracted(self) -> Extracted:
        """Return the main text, then the text of the other parts."""
        main = self._main_part()
        story = self._read(main, "the document")
        if story is None:
            raise Unreadable(NOT_A_DOCX)
        texts = [story.text()]
        targets = self._targets(main)
        for kind, name in BEHIND.items():
            texts += self._texts(targets[kind], name)
        return Extracted(
            text="\n\n".join(text for text in texts if text.strip()),
            warnings=(*self._warnings, *_left_out(story)),
        )

    def _main_part(self) -> str:
        for target in self._targets("")["officeDocument"]:
            if _key(target) in self._entries:
                return target
        return "word/document.xml"

    def _texts(self, parts: list[str], name: str) -> Iterator[str]:
        """Yield the texts of the parts, each once: a first page's header is often that of all."""
        seen = set()
        for part in parts:
            story = self._read(part, name) if _key(part) in self._entries else None
            text = story.text() if story else ""
            if text not in seen and any(map(str.isalpha, text)):
                seen.add(text)
                yield text

    def _read(self, part: str, name: str) -> Story | None:
        """Read one part as far as it is sound; None where there is nothing."""
        story = Story()
        try:
            self._feed(part, story)
        except BROKEN:
            if story.is_empty:
                self._warnings.append(f"Left out, since it is damaged: {name}.")
                return None
            self._warnings.append(
                f"Left out, since it is damaged: what comes behind the damage in {name}."
            )
        return story

    def _feed(self, part: str, target: object) -> None:
        parser = ElementTree.XMLParser(target=target)  # noqa: S314  (the target refuses entities)
        with self._archive.open(self._entries[_key(part)]) as file:
            while block := file.read(BLOCK_BYTES):
                parser.feed(block)
        parser.close()

    def _targets(self, part: str) -> dict[str, list[str]]:
        """Return the parts that a part refers to, by the last word of the reference's type."""
        folder, name = posixpath.split(part)
        relations = posixpath.join(folder, "_rels", f"{name}.rels")
        found = _Relations(folder)
        if _key(relations) in self._entries:
            try:
                self._feed(relations, found)
            except BROKEN:
                self._warnings.append(
                    "The list of the document's parts is damaged; notes, headers and footers may be missing."
                )
        return found.targets


class _Relations:
    """Collects the inner targets of a part's relationships. A target of ElementTree's parser."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.targets: dict[str, list[str]] = defaultdict(list)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if attributes.get("TargetMode") == "External" or "Target" not in attributes:
            return
        kind = attributes.get("Type", "").rpartition("/")[2]
        target = unquote(attributes["Target"]).replace("\\", "/")
        self.targets[kind].append(
            posixpath.normpath(posixpath.join("/", self._folder, target))
        )

    def close(self) -> None:
        """Return nothing, as the parser wants it."""


def _key(name: str) -> str:
    """Return a part's name as it is compared: without case, and whatever the writer's slashes."""
    return name.replace("\\", "/").lstrip("/").lower()


def _left_out(story: Story) -> Iterator[str]:
    if story.comments:
        yield "The comments in the margin were left out."
    if story.embedded == 1:
        yield "1 document that is embedded in this one (altChunk) was left out."
    elif story.embedded:
        yield f"{story.embedded} documents that are embedded in this one (altChunk) were left out."
