"""The ways in which a stub upstream can fail."""

import json
import socket
import struct
import time
from enum import Enum

import orjson


class Fault(Enum):
    """Set as `upstream.fault`; `upstream.fault_count` limits it to the first calls."""

    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    NO_SUCH_MODEL = "404"
    THROTTLED = "429 without Retry-After"
    THROTTLED_SECONDS = "429 with Retry-After in seconds"
    THROTTLED_DATE = "429 with Retry-After as a date"
    SERVER_ERROR = "500"
    OVERLOADED = "503"
    SLOW = "a pause, then a good answer"
    HANG = "nothing at all"
    DRIP = "the body byte by byte"
    DRIP_HEADERS = "the headers byte by byte"
    RESET = "connection reset in the middle of the body"
    CUT = "connection closed in the middle of the body"
    TRUNCATED = "half of the JSON as if it were whole"
    HTML = "an HTML page with 200"
    EMPTY = "an empty body with 200"
    WRONG_COUNT = "one vector too few"
    SHUFFLED = "vectors in reverse, with their indexes"
    MARKED = "a good answer after a byte order mark"
    DUPLICATE = "all indexes the same"
    NAN = "NaN in a vector"
    INFINITE = "Infinity in a vector"
    OVERFLOW = "a number beyond float32"
    STRINGS = "a number as a string"
    BOOLEANS = "true for a number"
    WRONG_DIMENSIONS = "vectors one number too short"
    REDIRECT = "307 to another server"
    HUGE = "a body without end"
    HUGE_DECLARED = "a Content-Length of 10 GB"


STATUS = {
    Fault.UNAUTHORIZED: 401,
    Fault.FORBIDDEN: 403,
    Fault.NO_SUCH_MODEL: 404,
    Fault.THROTTLED: 429,
    Fault.THROTTLED_SECONDS: 429,
    Fault.THROTTLED_DATE: 429,
    Fault.SERVER_ERROR: 500,
    Fault.OVERLOADED: 503,
}

# In the rows: what they become, before the provider's own format is laid around them.
ROWS = {
    Fault.WRONG_COUNT: lambda rows: rows[:-1],
    Fault.NAN: lambda rows: _with_first(rows, float("nan")),
    Fault.INFINITE: lambda rows: _with_first(rows, float("inf")),
    Fault.OVERFLOW: lambda rows: _with_first(rows, 1e39),
    Fault.STRINGS: lambda rows: _with_first(rows, "0.5"),
    Fault.BOOLEANS: lambda rows: _with_first(rows, True),
    Fault.WRONG_DIMENSIONS: lambda rows: [row[:-1] for row in rows],
}

# Kept from base64, which could not carry them.
NEEDS_LISTS = frozenset({Fault.STRINGS, Fault.BOOLEANS, Fault.OVERFLOW})
# What JSON has no word for, but Python's own writer writes.
NO_JSON = frozenset({Fault.NAN, Fault.INFINITE})


def _with_first(rows, value):
    return [[value, *rows[0][1:]], *rows[1:]]


def send(fault, handler, body, stopping):
    """Send `body` (the good answer, bytes) in the way of `fault`; True if it was."""
    sender = SENDERS.get(fault)
    if sender is None:
        return False
    handler.close_connection = True
    sender(handler, body, stopping)
    return True


def _hang(handler, body, stopping):
    stopping.wait(60)


def _drip(handler, body, stopping):
    handler.respond_head(200, {"Content-Length": len(body)})
    _byte_by_byte(handler, body, stopping)


def _drip_headers(handler, body, stopping):
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(2000))
    _byte_by_byte(handler, head, stopping)


def _byte_by_byte(handler, data, stopping):
    for position in range(len(data)):
        if stopping.wait(0.02):
            return
        handler.wfile.write(data[position : position + 1])
        handler.wfile.flush()


def _reset(handler, body, stopping):
    handler.respond_head(200, {"Content-Length": len(body)})
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    time.sleep(0.02)  # the half must be on its way, or the reset takes it along
    linger_zero = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
    handler.connection.close()


def _cut(handler, body, stopping):
    handler.respond_head(200, {"Content-Length": len(body)})
    handler.wfile.write(body[: len(body) // 2])


def _truncated(handler, body, stopping):
    handler.respond(200, body[: len(body) // 2])


def _marked(handler, body, stopping):
    handler.respond(200, b"\xef\xbb\xbf" + body)


def _html(handler, body, stopping):
    page = b"<html><body>Welcome to nginx! sk-stub-key</body></html>"
    handler.respond(200, page, {"Content-Type": "text/html"})


def _empty(handler, body, stopping):
    handler.respond(200, b"")


def _redirect(handler, body, stopping):
    handler.respond(307, b"", {"Location": handler.upstream.redirect_to})


def _huge(handler, body, stopping):
    handler.respond_head(200, {})
    for _ in range(4096):
        if stopping.is_set():
            return
        handler.wfile.write(b" " * 65536)


def _huge_declared(handler, body, stopping):
    handler.respond_head(200, {"Content-Length": 10_000_000_000})
    handler.wfile.write(body)


SENDERS = {
    Fault.HANG: _hang,
    Fault.DRIP: _drip,
    Fault.DRIP_HEADERS: _drip_headers,
    Fault.RESET: _reset,
    Fault.CUT: _cut,
    Fault.TRUNCATED: _truncated,
    Fault.MARKED: _marked,
    Fault.HTML: _html,
    Fault.EMPTY: _empty,
    Fault.REDIRECT: _redirect,
    Fault.HUGE: _huge,
    Fault.HUGE_DECLARED: _huge_declared,
}


def dumps(payload, fault=None):
    """Write JSON: fast, or as a careless server would where NaN and Infinity belong to the fault."""
    return json.dumps(payload).encode() if fault in NO_JSON else orjson.dumps(payload)
