"""JSON read with its whole numbers as they were sent: orjson makes floats of those that are beyond 64 bits."""

import json
import re
from typing import Any

import orjson
from rest_framework.exceptions import ParseError

from embeddings.api.parsers import JSONParser

LONG_NUMBER = re.compile(rb"[:\[,\s]-?[0-9]{19,}\s*[,\]}]")


def loads(body: bytes) -> Any:
    """Return what `body` says. Raises JSONDecodeError; ParseError where it nests too deeply."""
    data = orjson.loads(body)
    if not LONG_NUMBER.search(body):
        return data
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ParseError("The body nests too deeply.") from error


class ExactJSONParser(JSONParser):
    """The server's JSON parser, for bodies with numbers that are to be stored as they are."""

    loads = staticmethod(loads)
