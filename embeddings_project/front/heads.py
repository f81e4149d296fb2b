"""The head of a request: from its bytes to a WSGI environ. What two servers could read in two ways is refused."""

import functools
import ipaddress
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from embeddings_project.front.refusals import Refused

END = b"\r\n\r\n"
MAX_LINE_BYTES = 8190
MAX_FIELD_BYTES = 8190
MAX_FIELDS = 100
MAX_HEAD_BYTES = 2**16

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
_FIELD = _TOKEN + rb":" + _VALUE
REQUEST_LINE = re.compile(
    rb"([!$%&'*+.^_`|~0-9A-Z-]{3,20}) ([\x21-\x7e]+) HTTP/(\d)\.(\d)"
)
FIELDS = re.compile(_FIELD + rb"(?:\r\n" + _FIELD + rb")*")
FIELD = re.compile(_FIELD)
LONE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)[\s\S]")
METHOD_START = re.compile(rb"[!$%&'*+.^_`|~0-9A-Z-]{1,20}(?: |$)")
DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
ONCE = ("HTTP_HOST", "CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING")


@dataclass(slots=True, kw_only=True)
class Head:
    """A request before its body. `length` is the body's, None where it comes in chunks."""

    environ: dict[str, Any]
    method: str
    path: str
    length: int | None
    is_http_1_0: bool
    keep_alive: bool
    expects: bool  # the client waits for 100 Continue before it sends its body


def base_environ(*, workers: int) -> dict[str, Any]:
    """Return what is the same for all requests of a process."""
    return {
        "SCRIPT_NAME": "",
        "SERVER_SOFTWARE": "embeddings",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": workers > 1,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """Whose word on the scheme is believed (addresses and networks, or `*`), and the headers that say it."""

    allowed: tuple[str, ...]
    schemes: Mapping[str, str]  # by the environ's name: the value that means https

    def believes(self, address: str) -> bool:
        return not address or _is_among(address, self.allowed)


@functools.lru_cache(maxsize=4096)
def _is_among(address: str, allowed: tuple[str, ...]) -> bool:
    if "*" in allowed:
        return True
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in ipaddress.ip_network(one) for one in allowed)


def check_begun(head: bytes) -> None:
    """Refuse what can no longer become a head, while its end is not there yet."""
    if not METHOD_START.match(head):
        raise Refused(400, "The request does not begin with a method.")
    if LONE_LINE_END.search(head):
        raise Refused(400, "Lines must end with CR LF.")
    if len(head) > MAX_LINE_BYTES and head.find(b"\r\n", 0, MAX_LINE_BYTES + 2) < 0:
        raise _long_line()
    if len(head) > MAX_HEAD_BYTES:
        raise Refused(431, f"The headers are over the limit of {MAX_HEAD_BYTES} bytes.")


def parse(raw: bytes, environ: dict[str, Any], schemes: Mapping[str, str]) -> Head:
    """Read a head without its last empty line into `environ`. `schemes` are the headers on the scheme to believe."""
    line, _, fields = raw.partition(b"\r\n")
    method, target, minor = _request_line(line)
    if fields:
        _check_fields(fields)
        _add_fields(fields, environ)
    path, query = _split(target)
    environ["REQUEST_METHOD"] = method
    environ["RAW_URI"] = target
    environ["PATH_INFO"] = path
    environ["QUERY_STRING"] = query
    environ["SERVER_PROTOCOL"] = f"HTTP/1.{minor}"
    if schemes:
        _note_scheme(environ, schemes)
    is_http_1_0 = minor == 0
    length = _length(environ, is_http_1_0=is_http_1_0)
    return Head(
        environ=environ,
        method=method,
        path=path,
        length=length,
        is_http_1_0=is_http_1_0,
        keep_alive=_keep_alive(environ, is_http_1_0=is_http_1_0),
        expects=_expects(environ, is_http_1_0=is_http_1_0) and length != 0,
    )


def _request_line(line: bytes) -> tuple[str, str, int]:
    if len(line) > MAX_LINE_BYTES:
        raise _long_line()
    if not (match := REQUEST_LINE.fullmatch(line)):
        raise Refused(
            400, "The request line must be a method, a path and a version of HTTP."
        )
    method, target, major, minor = match.groups()
    if major != b"1" or minor not in (b"0", b"1"):
        raise Refused(505, "This server speaks HTTP/1.1 and HTTP/1.0.")
    return method.decode("ascii"), target.decode("ascii"), int(minor)


def _long_line() -> Refused:
    return Refused(414, f"The URL is over the limit of {MAX_LINE_BYTES} bytes.")


def _check_fields(fields: bytes) -> None:
    if not FIELDS.fullmatch(fields):
        for line in fields.split(b"\r\n"):
            if line[:1] in (b" ", b"\t"):
                raise Refused(400, "A header must not go on in the next line.")
            if not FIELD.fullmatch(line):
                raise Refused(400, "A header is malformed.")
    if fields.count(b"\r\n") >= MAX_FIELDS:
        raise Refused(431, f"There are more than {MAX_FIELDS} headers.")
    if len(fields) > MAX_FIELD_BYTES and any(
        len(line) > MAX_FIELD_BYTES for line in fields.split(b"\r\n")
    ):
        raise Refused(431, f"A header is over the limit of {MAX_FIELD_BYTES} bytes.")


def _add_fields(fields: bytes, environ: dict[str, Any]) -> None:
    """Add each header. Those of one name are joined; a name with `_` could pass for another, and is left out."""
    for line in fields.split(b"\r\n"):
        name, _, raw = line.partition(b":")
        if (key := _key(name)) is None:
            continue
        value = raw.strip(b" \t").decode("latin-1")
        if key not in environ:
            environ[key] = value
        elif key in ONCE:
            raise Refused(400, f"The header {name.decode('ascii')} must come once.")
        else:
            environ[key] = f"{environ[key]},{value}"


@functools.lru_cache(maxsize=1024)
def _key(name: bytes) -> str | None:
    if b"_" in name:
        return None
    key = name.decode("ascii").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def _split(target: str) -> tuple[str, str]:
    """Return path and query, the path decoded as WSGI has it."""
    rest = target.partition("#")[0]
    if not rest.startswith("/") and rest != "*":
        scheme, mark, rest = rest.partition("://")
        if not mark or scheme.lower() not in ("http", "https"):
            raise Refused(400, "The request's path must begin with a slash.")
        rest = rest[_path_at(rest) :]
        rest = rest if rest.startswith("/") else f"/{rest}"
    path, _, query = rest.partition("?")
    if "%" in path:
        path = unquote_to_bytes(path).decode("latin-1")
    return path, query


def _path_at(rest: str) -> int:
    """Return where the host of an absolute URL ends."""
    ends = [at for mark in "/?" if (at := rest.find(mark)) >= 0]
    return min(ends, default=len(rest))


def _note_scheme(environ: dict[str, Any], schemes: Mapping[str, str]) -> None:
    found = {
        environ[name] == secure for name, secure in schemes.items() if name in environ
    }
    if len(found) > 1:
        raise Refused(400, "The proxy's headers disagree on the scheme.")
    if found:
        environ["wsgi.url_scheme"] = "https" if found.pop() else "http"


def _length(environ: dict[str, Any], *, is_http_1_0: bool) -> int | None:
    length = environ.get("CONTENT_LENGTH")
    if (encoding := environ.pop("HTTP_TRANSFER_ENCODING", None)) is not None:
        if encoding.lower() != "chunked":
            raise Refused(501, "The only Transfer-Encoding served is chunked.")
        if length is not None or is_http_1_0:
            raise Refused(400, "The length of the body is ambiguous.")
        return None
    if length is None:
        return 0
    if not DIGITS.fullmatch(length):
        raise Refused(400, "Content-Length must be a number of bytes.")
    return int(length)


def _keep_alive(environ: dict[str, Any], *, is_http_1_0: bool) -> bool:
    given = environ.get("HTTP_CONNECTION")
    if given is None:
        return not is_http_1_0
    words = {word.strip() for word in given.lower().split(",")}
    return "close" not in words and (not is_http_1_0 or "keep-alive" in words)


def _expects(environ: dict[str, Any], *, is_http_1_0: bool) -> bool:
    expected = environ.get("HTTP_EXPECT")
    if expected is None:
        return False
    if expected.lower() != "100-continue":
        raise Refused(417, "The only expectation served is 100-continue.")
    return not is_http_1_0
