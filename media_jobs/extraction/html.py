"""HTML to the text that a browser shows: its encoding, what is hidden, what begins a line, by the HTML standard.

The model is `innerText`: https://html.spec.whatwg.org/multipage/rendering.html has the elements' display. Unlike there,
what a click shows (closed details, dialogs, all options) counts as shown, and so do the title and the texts for images.
"""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from media_jobs.extraction import encodings
from media_jobs.extraction.file_formats import Extracted, Unreadable
from media_jobs.extraction.text_layout import Layout


def _tags(names: str) -> frozenset[str]:
    return frozenset(names.split())


# The fallback of media that browsers show themselves is left out, as are scripts' and data for machines.
UNSEEN = _tags(
    "-comment annotation annotation-xml area audio base basefont canvas datalist defs desc embed head "
    "iframe link meta metadata noembed noframes noscript param script source style template title track "
    "video"
)
# With a margin above and below.
PARAGRAPHS = _tags(
    "blockquote dir dl fieldset figure h1 h2 h3 h4 h5 h6 hr listing menu ol p plaintext pre table ul xmp"
)
LISTS = _tags("dir dl menu ol ul")
LINES = _tags(
    "address article aside body caption center dd details dialog div dt figcaption footer form frameset "
    "header hgroup html legend li main nav optgroup option search section slot summary tbody text tfoot "
    "thead"
)
CELLS = _tags("td th")
# In a line, but apart from its words.
BOXES = _tags("button input marquee meter object progress select svg textarea")
PRESERVED = _tags("listing plaintext pre textarea xmp")
BUTTONS = _tags("button reset submit")
STYLED = '[hidden]:not([hidden="until-found" i]), [style]'
INVISIBLE = re.compile(
    r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)\b", re.I
)
PRE_STYLE = re.compile(r"(?:^|;)\s*white-space\s*:\s*(?:pre|break-spaces)", re.I)
GUESSED = "The file declares no encoding and is not UTF-8; it was read as windows-1252."


def read_html(data: bytes, charset: str) -> Extracted:
    """Return a page's text. `charset`: what its transport declared, or nothing. Raises Unreadable."""
    try:
        page, tree = _page(data, charset)
    except encodings.UnsafeEncoding as error:
        raise Unreadable(str(error)) from error
    return Extracted(text=_Shown(tree).text, warnings=page.warnings)


def _page(data: bytes, charset: str) -> tuple[encodings.Decoded, LexborHTMLParser]:
    """Decode and parse a page, in the order of the HTML standard: mark, transport, what it says itself."""
    page = encodings.marked(data)
    codec = encodings.codec_of(charset) or encodings.declared_in(data)
    if page is None and codec:
        page = encodings.decode(data, codec, declared=True)
    page = page or encodings.unmarked(data)
    if page:
        return page, _parsed(page.text)
    if b"\0" in data:
        raise Unreadable("The file is binary, not a page.")
    guess = encodings.decode(data, "cp1252", declared=False)
    tree = _parsed(guess.text)
    if late := _declared_late(tree):
        page = encodings.decode(data, late, declared=True)
        return page, _parsed(page.text)
    return encodings.Decoded(
        text=guess.text,
        encoding=guess.encoding,
        declared=False,
        warnings=(GUESSED, *guess.warnings),
    ), tree


def _parsed(text: str) -> LexborHTMLParser:
    # As with scripts: what is only for browsers without them is not shown, and takes no part of the head with it.
    try:
        return LexborHTMLParser(text, scripting=True)
    except SelectolaxError as error:  # any page can be parsed, where there is memory
        raise MemoryError from error


def _declared_late(tree: LexborHTMLParser) -> str | None:
    """Return what a page declares behind the bytes that are searched first: browsers read it again, too."""
    for meta in tree.css("meta"):
        found = {
            name.encode(): (value or "").encode()
            for name, value in meta.attributes.items()
        }
        if codec := encodings.meta_codec(found):
            return codec
    return None


class _Shown:
    """Walks a page without recursion, since pages nest as deep as they like."""

    def __init__(self, tree: LexborHTMLParser) -> None:
        self._layout = Layout()
        self._verbatim = 0
        self._lists = 0
        self._read_styles(tree)
        title = tree.head and tree.head.css_first("title")
        name = " ".join(title.text().split()) if title else ""
        if tree.body:
            self._walk(tree.body)
        shown = self._layout.result()
        if shown.partition("\n")[0] == name:
            self.text = shown
        else:
            self.text = f"{name}\n\n{shown}".strip("\n")

    def _read_styles(self, tree: LexborHTMLParser) -> None:
        self._hidden, self._styled = set(), set()
        for node in tree.css(STYLED):
            attributes = node.attributes
            style = attributes.get("style") or ""
            is_hidden = "hidden" in attributes or INVISIBLE.search(style)
            if is_hidden and node.tag not in ("html", "body"):  # a script shows those
                self._hidden.add(node.mem_id)
            elif PRE_STYLE.search(style):
                self._styled.add(node.mem_id)

    def _walk(self, top: LexborNode) -> None:
        node: LexborNode | None = top
        while node is not None:
            child = node.first_child if self._enter(node) else None
            node = self._after(node, top.mem_id) if child is None else child

    def _after(self, node: LexborNode, top: int) -> LexborNode | None:
        """Leave a node, and those that end with it, and return the next one."""
        while True:
            self._leave(node)
            parent, following = node.parent, node.next
            if node.mem_id == top or parent is None:
                return None
            if following is not None:
                return following
            node = parent

    def _enter(self, node: LexborNode) -> bool:
        """Begin a node; return whether what is in it is shown."""
        tag = node.tag
        if tag == "-text":
            self._text(node.text_content or "")
            return False
        if self._is_unseen(node, tag):
            return False
        self._border(tag)
        if tag in LISTS:
            self._lists += 1
        if tag in PRESERVED or node.mem_id in self._styled:
            self._verbatim += 1
        if tag == "br":
            self._layout.line()
        elif tag in CELLS:
            self._layout.cell()
        elif tag in ("img", "input", "optgroup"):
            self._replace(tag, node.attributes)
        return True

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag
        if tag == "-text" or self._is_unseen(node, tag):
            return
        if tag in LISTS:
            self._lists -= 1
        if tag in PRESERVED or node.mem_id in self._styled:
            self._verbatim -= 1
        if tag in CELLS:
            self._layout.cell_end()
        self._border(tag)

    def _is_unseen(self, node: LexborNode, tag: str | None) -> bool:
        return tag in UNSEEN or bool(self._hidden and node.mem_id in self._hidden)

    def _border(self, tag: str | None) -> None:
        """Keep what a node holds apart from what is before, or behind it."""
        if tag in PARAGRAPHS:
            self._layout.block(1 if self._lists and tag in LISTS else 2)
        elif tag == "tr":
            self._layout.row()
        elif tag in LINES:
            self._layout.block(1)
        elif tag in BOXES:
            self._layout.space()

    def _text(self, text: str) -> None:
        if self._verbatim:
            self._layout.verbatim(text)
        else:
            self._layout.text(text)

    def _replace(self, tag: str, attributes: dict[str, str | None]) -> None:
        """Add the text that an element without content has."""
        kind = (attributes.get("type") or "").lower()
        shown = {"img": "alt", "optgroup": "label"}.get(tag)
        if tag == "input" and (kind == "image" or kind in BUTTONS):
            shown = "alt" if kind == "image" else "value"
        if shown and (words := attributes.get(shown)):
            self._layout.space()
            self._layout.text(words)
            self._layout.space()
            if tag == "optgroup":
                self._layout.block(1)
