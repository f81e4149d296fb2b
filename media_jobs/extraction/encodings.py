"""Bytes to text by the rules of the web: the WHATWG's table of labels, the HTML standard's search for a declaration.

What a declaration names is decoded with U+FFFD for each bad byte. Plain Python, and no Django: used by the child, too.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

import webencodings

PRESCAN_BYTES = 1024
MARKS = (
    # The longest first: UTF-32's begins like UTF-16's.
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# The standard reads gbk with the larger table, too.
CODECS = {"gbk": "gb18030"}
# What the standard's tables have and Python's lack: where the named codec finds bad bytes, another one is asked.
ADDITIONS = {"euc_jp": "cp932", "big5hkscs": "cp950"}
REPLACED = "\ufffd"


class UnsafeEncoding(Exception):
    """The declared encoding is one that the standard forbids to decode. The message is public."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A text, and how it was read. `declared`: a mark, the transport or the text itself named the encoding."""

    text: str
    encoding: str
    declared: bool
    warnings: tuple[str, ...] = ()


def codec_of(label: str) -> str | None:
    """Return Python's name of what a label means on the web, None for an unknown one. Raises UnsafeEncoding."""
    try:
        found = webencodings.lookup(label)
    except UnicodeError:  # a label that is no ASCII
        return None
    if found is None:
        return None
    if found.name == "replacement":
        raise UnsafeEncoding(
            f"The file declares the encoding {label!r}, which is not safe to read; save it in UTF-8."
        )
    if found.name == "x-user-defined":
        return "cp1252"
    name: str = found.codec_info.name
    return CODECS.get(found.name, name)


def marked(data: bytes) -> Decoded | None:
    """Return the text of what begins with a byte order mark."""
    for mark, codec in MARKS:
        if data.startswith(mark):
            return decode(data[len(mark) :], codec, declared=True)
    return None


def decode(data: bytes, codec: str, *, declared: bool) -> Decoded:
    """Return the text, with U+FFFD for each byte that is none of the codec's."""
    handler = f"media_jobs.{codec}" if codec in ADDITIONS else "replace"
    before = _given(data, codec)
    text = data.decode(codec, handler)
    bad = text.count(REPLACED) - before
    warnings = (_replaced_in(bad, codec),) if bad > 0 else ()
    return Decoded(text=text, encoding=codec, declared=declared, warnings=warnings)


def unmarked(data: bytes) -> Decoded | None:
    """Return the text of what declares nothing: UTF-8, also with some bad bytes, or UTF-16; None for any other."""
    if codec := _utf16(data):
        return decode(data, codec, declared=False)
    read = decode(data, "utf-8", declared=False)
    if not read.warnings:
        return read
    bad = read.text.count(REPLACED)
    good = len(read.text) - len(read.text.encode("ascii", "ignore")) - bad
    # Text in another encoding has hardly a character that is one in UTF-8 by chance.
    return read if good >= bad else None


def declared_in(data: bytes) -> str | None:
    """Return the codec that a page's first bytes declare, by the HTML standard's prescan. Raises UnsafeEncoding."""
    head = data[:PRESCAN_BYTES]
    if head.startswith(b"<\0?\0x\0"):
        return "utf-16-le"
    if head.startswith(b"\0<\0?\0x"):
        return "utf-16-be"
    for attributes in _metas(head):
        if codec := meta_codec(attributes):
            return codec
    return _xml_codec(head)


def within_page(label: str) -> str | None:
    """Return the codec of a label inside the page. It cannot be UTF-16, since the label was readable."""
    codec = codec_of(label)
    return "utf-8" if codec and codec.startswith("utf-16") else codec


def _replaced_in(bad: int, codec: str) -> str:
    name = codec.replace("cp125", "windows-125").replace("_", "-")
    if bad == 1:
        return f"1 bad byte or character of the text, read as {name}, was replaced by U+FFFD."
    return f"{bad} bad bytes or characters of the text, read as {name}, were replaced by U+FFFD."


def _given(data: bytes, codec: str) -> int:
    """Return how often the text itself has U+FFFD."""
    if codec.startswith(("utf-16", "utf-32")):
        return data.decode(codec, "ignore").count(REPLACED)
    return data.count(b"\xef\xbf\xbd") if codec == "utf-8" else 0


def _utf16(data: bytes) -> str | None:
    """Return the UTF-16 that bytes without a mark are in, if that is certain: half the characters or more are ASCII."""
    head = data[:PRESCAN_BYTES]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) * 4 < max(8, len(head)) or min(even, odd) or len(data) % 2:
        return None
    codec = "utf-16-le" if odd else "utf-16-be"
    try:
        return None if "\0" in data.decode(codec) else codec
    except UnicodeDecodeError:
        return None


# The prescan. https://html.spec.whatwg.org/multipage/parsing.html#prescan-a-byte-stream-to-determine-its-encoding
SPACE = rb"\t\n\f\r "
TOKEN = re.compile(
    rb"<!--(?P<comment>)|<(?P<meta>meta)[%b/]|</?(?P<tag>[a-z])|<[!/?]" % SPACE, re.I
)
ATTRIBUTE = re.compile(
    rb"""[%(space)b/]*(?P<name>[^%(space)b/>][^%(space)b/>=]*)"""
    rb"""(?:[%(space)b]*=[%(space)b]*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^%(space)b>"'][^%(space)b>]*)?))?"""
    % {b"space": SPACE}
)
CHARSET_IN_CONTENT = re.compile(
    rb"""charset[%(space)b]*=[%(space)b]*(?:"([^"]*)"|'([^']*)'|([^%(space)b;"'][^%(space)b;]*))"""
    % {b"space": SPACE},
    re.I,
)
XML_ENCODING = re.compile(
    rb"""<\?xml[^>]*?encoding[\x00-\x20]*=[\x00-\x20]*(["'])([^\x00-\x20>]*?)\1[^>]*>"""
)


def _metas(head: bytes) -> Iterator[dict[bytes, bytes]]:
    """Yield the attributes of each `<meta>` outside comments and other tags."""
    position = 0
    while token := TOKEN.search(head, position):
        position = token.end()
        if token["comment"] is not None:
            # The hyphens that open a comment may close it.
            position = _after(head, b"-->", token.end() - 2)
        elif token["meta"]:
            attributes, position = _attributes(head, position - 1)
            yield attributes
        elif token["tag"]:
            position = _end_of_name(head, position)
            _, position = _attributes(head, position)
        else:
            position = _after(head, b">", position - 1)


def _after(head: bytes, mark: bytes, position: int) -> int:
    found = head.find(mark, position)
    return len(head) if found < 0 else found + len(mark)


def _end_of_name(head: bytes, position: int) -> int:
    found = re.compile(rb"[%b>]" % SPACE).search(head, position)
    return found.start() if found else len(head)


def _attributes(head: bytes, position: int) -> tuple[dict[bytes, bytes], int]:
    """Return a tag's attributes, the first of each name, and where the tag's attributes end."""
    found: dict[bytes, bytes] = {}
    while attribute := ATTRIBUTE.match(head, position):
        position = attribute.end()
        value = attribute["double"] or attribute["single"] or attribute["bare"] or b""
        found.setdefault(attribute["name"].lower(), value)
    return found, position


def meta_codec(attributes: dict[bytes, bytes]) -> str | None:
    label = attributes.get(b"charset")
    if label is None and attributes.get(b"http-equiv", b"").lower() == b"content-type":
        declared = CHARSET_IN_CONTENT.search(attributes.get(b"content", b""))
        label = declared and (declared[1] or declared[2] or declared[3])
    return within_page(label.decode("latin-1")) if label else None


def _xml_codec(head: bytes) -> str | None:
    declared = XML_ENCODING.match(head)
    return within_page(declared[2].decode("latin-1")) if declared else None


def _adding(codec: str, other: str) -> None:
    """Register an error handler that reads two bad bytes as `other` does, if it can."""

    def handle(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        pair = error.object[error.start : error.start + 2]
        try:
            character = _as_shift_jis(pair) if codec == "euc_jp" else pair
            return character.decode(other), error.start + 2
        except (UnicodeDecodeError, ValueError):
            return REPLACED, error.start + 1

    codecs.register_error(f"media_jobs.{codec}", handle)


def _as_shift_jis(pair: bytes) -> bytes:
    """Return the same place of JIS X 0208, where Shift_JIS has it. Raises ValueError."""
    if len(pair) < 2 or min(pair) < 0xA1:
        raise ValueError(pair)
    row, cell = pair[0] - 0xA1, pair[1] - 0xA1
    lead = row // 2 + (0x81 if row < 62 else 0xC1)
    trail = cell + (0x9F if row % 2 else 0x40)
    return bytes((lead, trail + (trail >= 0x7F and not row % 2)))


for _codec, _other in ADDITIONS.items():
    _adding(_codec, _other)
