"""Heads of requests: read as gunicorn's own parser reads them, or refused."""

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

from embeddings_project.front import heads
from embeddings_project.front.heads import Proxies
from embeddings_project.front.refusals import Refused

PEER = ("127.0.0.1", 5000)
SCHEMES = {
    "HTTP_X_FORWARDED_PROTOCOL": "ssl",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_SSL": "on",
}
# Keys that say how the environ was made, not what was asked.
OF_THE_SERVER = ("wsgi.", "SERVER_", "REMOTE_", "SCRIPT_NAME", "gunicorn.")

ACCEPTED = {
    "plain": b"GET / HTTP/1.1\r\nHost: a",
    "no header": b"GET /healthz HTTP/1.1",
    "http 1.0": b"GET / HTTP/1.0\r\nHost: a",
    "post": b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Type: a/b",
    "length of nothing": b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0",
    "leading zeros": b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 003",
    "query": b"GET /a/b?c=d&e=%20? HTTP/1.1\r\nHost: a",
    "encoded path": b"GET /a%2Fb/%C3%A9/%ff%00 HTTP/1.1\r\nHost: a",
    "two slashes": b"GET //a//b HTTP/1.1\r\nHost: a",
    "fragment": b"GET /a?b#c HTTP/1.1\r\nHost: a",
    "absolute": b"GET http://host:80/a/b?c HTTP/1.1\r\nHost: a",
    "everything": b"OPTIONS * HTTP/1.1\r\nHost: a",
    "repeated header": b"GET / HTTP/1.1\r\nHost: a\r\nX-B: 1\r\nX-b: 2\r\nX-B: 3",
    "spaces round a value": b"GET / HTTP/1.1\r\nHost: a\r\nX-B: \t 1 2 \t",
    "no space before a value": b"GET / HTTP/1.1\r\nHost:a\r\nX-B:",
    "high bytes": b"GET / HTTP/1.1\r\nHost: a\r\nX-B: h\xe9\xff",
    "underscore": b"GET / HTTP/1.1\r\nHost: a\r\nX_API_KEY: a\r\nX-API-KEY: b",
    "own prefix": b"GET / HTTP/1.1\r\nHost: a\r\nHTTP-HOST: b",
    "odd method": b"M-SEARCH / HTTP/1.1\r\nHost: a",
    "https": b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https",
    "http": b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http",
    "expects": b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1",
    "close": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close",
    "keep": b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive",
}
REFUSED = {
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1", 400),
    "list of lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1,1", 400),
    "signed length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1", 400),
    "negative length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1", 400),
    "hexadecimal length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1", 400),
    "empty length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:", 400),
    "length and chunks": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", 400),
    "chunks and length": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1", 400),
    "chunks twice": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked", 501),
    "chunks in two headers": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
    "another encoding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked", 501),
    "vertical tab": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked", 400),
    "chunks in HTTP 1.0": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked", 400),
    "folded header": (b"GET / HTTP/1.1\r\nHost: a\r\nX-B: 1\r\n 2", 400),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 1", 400),
    "header without a colon": (b"GET / HTTP/1.1\r\nHost: a\r\nnonsense", 400),
    "header without a name": (b"GET / HTTP/1.1\r\nHost: a\r\n: x", 400),
    "lone LF": (b"GET / HTTP/1.1\r\nHost: a\nX-B: 1", 400),
    "lone CR": (b"GET / HTTP/1.1\r\nHost: a\rX-B: 1", 400),
    "NUL": (b"GET / HTTP/1.1\r\nHost: a\0", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b", 400),
    "two types": (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Type: a\r\nContent-Type: b", 400),
    "lower-case method": (b"get / HTTP/1.1\r\nHost: a", 400),
    "no version": (b"GET /\r\nHost: a", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a", 400),
    "space in the path": (b"GET /a b HTTP/1.1\r\nHost: a", 400),
    "high byte in the path": (b"GET /\xe9 HTTP/1.1\r\nHost: a", 400),
    "other protocol": (b"GET / ICY/1.1\r\nHost: a", 400),
    "HTTP/2": (b"PRI * HTTP/2.0", 505),
    "expectation": (b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: something", 417),
    "schemes that disagree": (b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-SSL: off", 400),
    "long URL": (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a", 414),
    "long header": (b"GET / HTTP/1.1\r\nHost: a\r\nX-B: " + b"x" * 9000, 431),
    "many headers": (b"GET / HTTP/1.1\r\nHost: a" + b"\r\nX-B: 1" * 100, 431),
}  # fmt: skip
# gunicorn speaks HTTP/2, and allows one header more.
OURS_ALONE = ("HTTP/2", "many headers")


def ours(raw, *, schemes=SCHEMES):
    return heads.parse(raw, heads.base_environ(workers=1), schemes)


def gunicorns(raw):
    """Return the environ that gunicorn's own worker would make, and whether it would close the connection."""
    config = Config()
    config.set("limit_request_line", 8190)
    request = Request(config, IterUnreader([raw + b"\r\n\r\n"]), PEER)
    _, environ = wsgi.create(request, Silent(), PEER, ("127.0.0.1", 80), config)
    return environ, request.should_close()


class Silent:
    def send(self, data):
        """Take the 100 Continue."""


def what_was_asked(environ):
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(OF_THE_SERVER)
    }


@pytest.mark.parametrize("raw", ACCEPTED.values(), ids=ACCEPTED)
def test_request_is_read_as_gunicorn_reads_it(raw):
    head = ours(raw)
    environ, closes = gunicorns(raw)
    assert what_was_asked(head.environ) == what_was_asked(environ)
    assert head.environ["wsgi.url_scheme"] == environ["wsgi.url_scheme"]
    assert head.keep_alive is not closes


@pytest.mark.parametrize("name", REFUSED)
def test_request_that_two_servers_could_read_in_two_ways_is_refused(name):
    raw, status = REFUSED[name]
    with pytest.raises(Refused) as refused:
        ours(raw)
    assert refused.value.status == status
    if name not in OURS_ALONE:
        with pytest.raises(ParseException):
            gunicorns(raw)


def test_absolute_url_without_a_path_is_the_root():
    assert ours(b"GET http://host?a HTTP/1.1").environ["PATH_INFO"] == "/"


def test_chunked_body_has_no_length_and_leaves_no_trace_of_its_encoding():
    head = ours(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked")
    assert head.length is None
    assert "HTTP_TRANSFER_ENCODING" not in head.environ


def test_scheme_is_believed_of_nobody_who_is_no_proxy():
    head = ours(ACCEPTED["https"], schemes={})
    assert head.environ["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize(
    ("allowed", "address", "believed"),
    [
        (("127.0.0.1", "::1"), "127.0.0.1", True),
        (("127.0.0.1", "::1"), "10.0.0.1", False),
        (("10.0.0.0/8",), "10.0.0.1", True),
        (("*",), "192.0.2.1", True),
        ((), "", True),  # a Unix socket
    ],
)
def test_proxies_are_known_by_their_address(allowed, address, believed):
    assert Proxies(allowed=allowed, schemes={}).believes(address) is believed


@pytest.mark.parametrize(
    ("begun", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET /" + b"x" * 9000, 414),
        (b"GET / HTTP/1.1\r\n" + b"X-B: 1\r\n" * 9000, 431),
    ],
    ids=["TLS", "lone LF", "long URL", "endless headers"],
)
def test_what_cannot_become_a_head_is_refused_before_its_end(begun, status):
    with pytest.raises(Refused) as refused:
        heads.check_begun(begun)
    assert refused.value.status == status


@pytest.mark.parametrize("size", range(1, 40))
def test_half_a_head_is_waited_for(size):
    heads.check_begun(b"POST /api HTTP/1.1\r\nHost: localhost\r\nX-A: b"[:size])
