"""JSON read with its whole numbers as they were sent: orjson makes floats of those that are beyond 64 bits."""

import json
import re
from typing import Any

import orjson
from rest_framework.exceptions import ParseError

from embeddings.api.parsers import JSONParser

LONG_NUMBER = re.compile(rb"[:\[,\s]-?[0-9]{19,}\s*[,\]}]")
DIGITS_AND_SIGN = 20  # of any number of 64 bits
BEYOND_64_BITS = 2**64


def loads(text: bytes) -> Any:
    """Return what `text` says. Raises JSONDecodeError; ParseError where it nests too deeply."""
    data = orjson.loads(text)
    if not LONG_NUMBER.search(text):
        return data
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError as error:
        raise ParseError("The body nests too deeply.") from error


def _whole(digits: str) -> int:
    # How long a number is written matters no more, and Python refuses very long ones.
    return int(digits) if len(digits) <= DIGITS_AND_SIGN else BEYOND_64_BITS


class ExactJSONParser(JSONParser):
    """The server's JSON parser, for bodies with numbers that are to be stored as they are."""

    loads = staticmethod(loads)
