"""What counts as text, and what is refused as empty or binary. Plain Python."""

import hashlib

from embeddings.services.errors import InvalidRequest


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
