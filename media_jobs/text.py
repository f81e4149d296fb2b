"""What counts as text: decoding, and what is refused as empty or binary. Plain Python."""

import codecs
import hashlib

from embeddings.services.errors import InvalidRequest

# The longest mark first: UTF-32's begins like UTF-16's.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decoded(data: bytes, *, param: str) -> str:
    """Return the text of a file: as its byte order mark says, else UTF-8. Raises InvalidRequest."""
    encoding = next(
        (name for mark, name in BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8"
    )
    if encoding == "utf-8" and b"\0" in data:
        raise InvalidRequest(f"{param} is binary, not text.", param=param)
    try:
        return data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{param} is not text in UTF-8 (nor in UTF-16 or UTF-32 with a byte order mark).",
            param=param,
        ) from error


def checked(text: str, *, param: str) -> str:
    """Return `text`. Raises InvalidRequest if nothing can be embedded of it."""
    if "\0" in text:
        raise InvalidRequest(f"{param} is binary, not text.", param=param)
    if not text.strip():
        raise InvalidRequest(f"{param} must not be empty or blank.", param=param)
    return text


def checksum(text: str) -> str:
    """Return the sha256 of the text in UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
