"""The XML of a docx's part to text, element by element as it is parsed, with nothing kept but the text."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from media_jobs.extraction.file_formats import Unreadable
from media_jobs.extraction.symbols import character
from media_jobs.extraction.text_layout import Layout

PREFIXES = {
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main": "w",
    "http://purl.oclc.org/ooxml/wordprocessingml/main": "w",
    "http://schemas.openxmlformats.org/officeDocument/2006/math": "m",
    "http://purl.oclc.org/ooxml/officeDocument/math": "m",
    "http://schemas.openxmlformats.org/drawingml/2006/main": "a",
    "http://purl.oclc.org/ooxml/drawingml/main": "a",
    "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing": "wp",
    "http://purl.oclc.org/ooxml/drawingml/wordprocessingDrawing": "wp",
    "http://schemas.openxmlformats.org/markup-compatibility/2006": "mc",
    "urn:schemas-microsoft-com:vml": "v",
}
TEXTS = frozenset(("w:t", "m:t", "a:t"))
# Moved away, as deleted text is (which has an element of its own); separators are lines.
SKIPPED = frozenset(("w:moveFrom",))
SEPARATORS = frozenset(("separator", "continuationSeparator", "continuationNotice"))
OFF = frozenset(("0", "false", "off"))
# What mathematics writes above and below, in a line.
MATHEMATICS = {"m:den": "/", "m:sup": "^", "m:sub": "_"}
Attributes = Mapping[str, str]


class _Flow:
    """A text of its own: the main one, or that of a box within it, which is put behind its paragraph."""

    def __init__(self) -> None:
        self.layout = Layout()
        self.boxes: list[str] = []
        self.tables = 0


class Story:
    """Collects the text of one part. A target of ElementTree's parser; entities are refused."""

    def __init__(self) -> None:
        self.comments = 0
        self.embedded = 0
        self._names: dict[str, str] = {}
        self._path: list[str] = []
        self._skipping = 0
        self._flows = [_Flow()]
        self._written = 0
        self._before_choice: list[int] = []
        self._hidden = False  # the run at hand
        self._joins = False  # the paragraph at hand, with the next one
        self._checked: bool | None = None
        self._sign = ""
        self._ruby = ""

    @property
    def is_empty(self) -> bool:
        """Whether no text came so far."""
        return not self._written

    def text(self) -> str:
        """Return all text so far."""
        while len(self._flows) > 1:
            self._close_box()
        self._place_boxes()
        return self._layout.result()

    # What the parser calls.

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = self._names.get(tag) or self._named(tag)
        self._path.append(name)
        if self._skipping or self._is_skipped(name, attributes):
            self._skipping += 1
        elif handler := self._starts.get(name):
            handler(self, _local(attributes))
        elif sign := MATHEMATICS.get(name):
            self._sign = sign

    def end(self, tag: str) -> None:
        name = self._path.pop()
        if self._skipping:
            self._skipping -= 1
        elif handler := self._ends.get(name):
            handler(self)
        elif name in MATHEMATICS:
            self._sign = ""

    def data(self, text: str) -> None:
        if self._path and self._path[-1] in TEXTS and not self._skipping:
            self._write(text.replace("\n", " "))

    def doctype(self, name: str, public: str, system: str) -> None:
        raise Unreadable("The docx file has a document type, which no docx has.")

    def close(self) -> None:
        """Return nothing, as the parser wants it."""

    # Elements.

    @property
    def _layout(self) -> Layout:
        return self._flows[-1].layout

    def _write(self, text: str) -> None:
        if text and not self._hidden:
            self._layout.verbatim(self._sign + text)
            self._sign = ""
            self._written += 1

    def _apart(self, text: str) -> None:
        """Write a text that stands for an image."""
        if text.strip() and not self._hidden:
            self._layout.space()
            self._write(" ".join(text.split()))
            self._layout.space()

    def _paragraph(self, _: Attributes) -> None:
        if not self._joins:
            self._border()
        self._joins = False

    def _paragraph_end(self) -> None:
        if not self._joins:
            self._border()
        self._place_boxes()

    def _border(self) -> None:
        self._layout.block(1 if self._flows[-1].tables else 2)

    def _deletion(self, _: Attributes) -> None:
        if self._path[-3:-1] == ["w:pPr", "w:rPr"]:
            self._joins = True  # the mark at the paragraph's end is what was deleted

    def _vanish(self, attributes: Attributes) -> None:
        if self._path[-3:-1] == ["w:r", "w:rPr"]:
            self._hidden = attributes.get("val") not in OFF

    def _run_end(self) -> None:
        self._hidden = False

    def _tab(self, _: Attributes) -> None:
        # The others are places where a tab would end.
        if self._path[-2] in ("w:r", "a:p"):
            self._layout.tab()

    def _break(self, _: Attributes) -> None:
        self._layout.line()

    def _hyphen(self, _: Attributes) -> None:
        self._write("-")

    def _symbol(self, attributes: Attributes) -> None:
        try:
            code = int(attributes.get("char", ""), 16)
        except ValueError:
            return
        self._write(character(attributes.get("font", ""), code))

    def _checkbox(self, _: Attributes) -> None:
        self._checked = False

    def _checkbox_state(self, attributes: Attributes) -> None:
        if self._checked is not None and self._path[-2] == "w:checkBox":
            self._checked = attributes.get("val") not in OFF

    def _checkbox_end(self) -> None:
        self._write("☒" if self._checked else "☐")
        self._checked = None

    def _table(self, _: Attributes) -> None:
        self._layout.block(2)
        self._flows[-1].tables += 1

    def _table_end(self) -> None:
        self._flows[-1].tables -= 1
        self._layout.block(2)

    def _row(self, _: Attributes) -> None:
        self._layout.row()

    def _row_end(self) -> None:
        self._layout.row()

    def _cell(self, _: Attributes) -> None:
        self._layout.cell()

    def _cell_end(self) -> None:
        self._layout.cell_end()

    def _matrix_cell(self, _: Attributes) -> None:
        if self._path[-2] == "m:mr":
            self._layout.space()

    def _box(self, _: Attributes) -> None:
        self._flows.append(_Flow())

    def _close_box(self) -> None:
        self._place_boxes()
        text = self._flows.pop().layout.result()
        self._flows[-1].boxes.append(text)

    def _place_boxes(self) -> None:
        flow = self._flows[-1]
        for text in flow.boxes:
            flow.layout.block(2)
            flow.layout.verbatim(text)
            flow.layout.block(2)
        flow.boxes.clear()

    def _alternatives(self, _: Attributes) -> None:
        self._before_choice.append(self._written)

    def _alternatives_end(self) -> None:
        self._before_choice.pop()

    def _description(self, attributes: Attributes) -> None:
        self._apart(attributes.get("descr") or attributes.get("title") or "")

    def _shape(self, attributes: Attributes) -> None:
        self._apart(attributes.get("alt", ""))

    def _lettering(self, attributes: Attributes) -> None:
        self._apart(attributes.get("string", ""))

    def _ruby_text(self, _: Attributes) -> None:
        self._flows.append(_Flow())

    def _ruby_text_end(self) -> None:
        self._ruby = self._flows.pop().layout.result()

    def _ruby_end(self) -> None:
        if self._ruby:
            self._write(f"({self._ruby})")
        self._ruby = ""

    def _comment(self, _: Attributes) -> None:
        self.comments += 1

    def _embed(self, _: Attributes) -> None:
        self.embedded += 1

    _starts: ClassVar[dict[str, Callable[["Story", Attributes], None]]] = {
        "w:p": _paragraph,
        "a:p": _paragraph,
        "w:del": _deletion,
        "w:vanish": _vanish,
        "w:tab": _tab,
        "w:ptab": _tab,
        "w:br": _break,
        "w:cr": _break,
        "a:br": _break,
        "w:noBreakHyphen": _hyphen,
        "w:sym": _symbol,
        "w:checkBox": _checkbox,
        "w:checked": _checkbox_state,
        "w:default": _checkbox_state,
        "w:tbl": _table,
        "w:tr": _row,
        "w:tc": _cell,
        "m:e": _matrix_cell,
        "w:txbxContent": _box,
        "mc:AlternateContent": _alternatives,
        "wp:docPr": _description,
        "v:shape": _shape,
        "v:textpath": _lettering,
        "w:rt": _ruby_text,
        "w:commentReference": _comment,
        "w:altChunk": _embed,
    }
    _ends: ClassVar[dict[str, Callable[["Story"], None]]] = {
        "w:p": _paragraph_end,
        "a:p": _paragraph_end,
        "w:r": _run_end,
        "w:checkBox": _checkbox_end,
        "w:tbl": _table_end,
        "w:tr": _row_end,
        "w:tc": _cell_end,
        "w:txbxContent": _close_box,
        "mc:AlternateContent": _alternatives_end,
        "w:rt": _ruby_text_end,
        "w:ruby": _ruby_end,
    }

    def _is_skipped(self, name: str, attributes: Attributes) -> bool:
        if name in ("w:footnote", "w:endnote"):
            return _local(attributes).get("type") in SEPARATORS
        if name in ("mc:Choice", "mc:Fallback") and self._before_choice:
            # The same for another Word: the first that has a text is taken.
            return self._written > self._before_choice[-1]
        return name in SKIPPED

    def _named(self, tag: str) -> str:
        space, _, name = tag.rpartition("}")
        prefix = PREFIXES.get(space[1:], "other")
        return self._names.setdefault(tag, f"{prefix}:{name}")


def _local(attributes: Mapping[str, str]) -> Attributes:
    """Return the attributes by their names alone."""
    return {name.rpartition("}")[2]: value for name, value in attributes.items()}
