"""What HttpClient sends, byte by byte, and what it makes of an answer."""

import gzip
import time
import zlib
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest

from providers.exceptions import ProviderMalformed, ProviderUnavailable
from providers.remote.client import MAX_ERROR_BYTES, HttpClient
from providers.remote.deadline import Deadline
from tests.collector import collector_off, failing
from tests.servers import serving

JSON = b'{"x": [1, 2, 3]}'
READ = {"x": [1, 2, 3]}
PACKED = gzip.compress(JSON, mtime=0)
DEFLATED = zlib.compress(JSON)


class Wire(ThreadingTCPServer):
    """Answers each request with `answer` and keeps its bytes, and counts the connections."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Requests)
        self.answer = answer(b"{}")
        self.requests = []
        self.connections = 0

    @property
    def port(self):
        return self.server_address[1]

    def head(self):
        """Return the one request's first line and its headers."""
        (request,) = self.requests
        first, *headers = request.partition("\r\n\r\n")[0].split("\r\n")
        return first, headers


class Requests(StreamRequestHandler):
    server: Wire

    def handle(self):
        self.server.connections += 1
        lines = []
        for line in self.rfile:
            lines.append(line)
            if line != b"\r\n":
                continue
            (length,) = [
                int(line.split(b":")[1])
                for line in lines
                if line.startswith(b"Content-Length:")
            ]
            lines.append(self.rfile.read(length))
            self.server.requests.append(b"".join(lines).decode())
            lines.clear()
            self.wfile.write(self.server.answer)


def answer(body, *headers, status=200, chunked=0):
    """Return a whole answer; its body is in chunks of `chunked` bytes, if any."""
    framing = f"Content-Length: {len(body)}"
    if chunked:
        framing = "Transfer-Encoding: chunked"
        pieces = [
            body[start : start + chunked] for start in range(0, len(body), chunked)
        ]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        body += b"0\r\n\r\n"
    head = "\r\n".join([f"HTTP/1.1 {status} So", framing, *headers, "", ""])
    return head.encode("latin-1") + body


@pytest.fixture
def wire():
    with serving(Wire()) as server:
        yield server


@pytest.fixture
def client():
    """A client that finds every host at 127.0.0.1."""
    client = HttpClient("wire", addresses=lambda host, port: ["127.0.0.1"])
    yield client
    client.close()


def post(client, url, *, headers=None, content=b"[]", max_bytes=1000):
    return client.post(
        url,
        headers=headers or {},
        content=content,
        deadline=Deadline.after(5, time.monotonic),
        max_bytes=max_bytes,
    )


def call(client, wire, **options):
    return post(client, f"http://wire.example:{wire.port}/v1", **options)


def test_whole_request(wire, client):
    call(client, wire, headers={"x-key": "k"}, content=b'{"a": 1}')

    (request,) = wire.requests
    assert request.split("\r\n") == [
        "POST /v1 HTTP/1.1",
        f"Host: wire.example:{wire.port}",
        "Connection: keep-alive",
        "user-agent: embeddings-server",
        "accept: application/json",
        "accept-encoding: gzip",
        "x-key: k",
        "Content-Length: 8",
        "",
        '{"a": 1}',
    ]


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("Wire.Example", "wire.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("müller.example", "xn--mller-kva.example"),
        ("user:secret@wire.example", "wire.example"),
    ],
)
def test_host_header(wire, client, host, sent):
    post(client, f"http://{host}:{wire.port}/")

    first, headers = wire.head()
    assert first == "POST / HTTP/1.1"
    assert headers[0] == f"Host: {sent}:{wire.port}"


@pytest.mark.parametrize(
    ("rest", "target"),
    [
        ("", "/"),
        ("?a", "/?a"),
        ("/a b/%2f%41/é", "/a%20b/%2f%41/%C3%A9"),
        ("/?q=ü&k=%zz&x=[1]|{}#part", "/?q=%C3%BC&k=%zz&x=[1]|{}"),
        ("/a/../b/./c", "/b/c"),
    ],
)
def test_path_and_query(wire, client, rest, target):
    post(client, f"http://wire.example:{wire.port}{rest}")

    assert wire.head()[0] == f"POST {target} HTTP/1.1"


@pytest.mark.parametrize("host", ["wire.example", "wire.example:80"])
def test_schemes_own_port_is_not_said(wire, host):
    """Seen by a proxy, which any port can be asked of."""
    client = HttpClient("wire", proxy_url=f"http://127.0.0.1:{wire.port}")
    post(client, f"http://{host}/v1")
    client.close()

    first, headers = wire.head()
    assert first == "POST http://wire.example/v1 HTTP/1.1"
    assert headers[0] == "Host: wire.example"


@pytest.mark.parametrize(
    ("userinfo", "sent"),
    [
        ("user:pa%40ss", "dXNlcjpwYUBzcw=="),
        ("user", "dXNlcjo="),
        (":p", "OnA="),
        ("us%C3%A9r:x", "dXPDqXI6eA=="),
    ],
)
def test_user_and_password_of_an_address_replace_the_callers(
    wire, client, userinfo, sent
):
    url = f"http://{userinfo}@wire.example:{wire.port}/"
    post(client, url, headers={"authorization": "Bearer k"})

    _, headers = wire.head()
    found = [line for line in headers if line.lower().startswith("authorization:")]
    assert found == [f"Authorization: Basic {sent}"]


def test_callers_headers_replace_the_clients_whatever_their_case(wire, client):
    call(client, wire, headers={"User-Agent": "mine", "ACCEPT": "x/y"})

    _, headers = wire.head()
    names = [line.partition(":")[0].lower() for line in headers]
    assert sorted(names) == sorted(set(names))
    assert {"User-Agent: mine", "ACCEPT: x/y"} <= set(headers)


def test_body_may_be_empty(wire, client):
    assert call(client, wire, content=b"").status == 200
    assert "Content-Length: 0" in wire.head()[1]


@pytest.mark.parametrize("value", ["two\r\nlines", " padded "])
def test_header_that_cannot_be_sent_is_not_quoted(wire, client, value):
    with pytest.raises(ProviderUnavailable, match=r"\(LocalProtocolError\)\.$"):
        call(client, wire, headers={"authorization": value})
    assert wire.requests == []


@pytest.mark.parametrize(
    "url", ["", "/v1", "wire.example", "http://", "http:///v1", "ftp://wire.example/"]
)
def test_address_that_cannot_be_called_reaches_nobody(url):
    asked = []

    def addresses(host, port):
        asked.append(host)
        return ["127.0.0.1"]

    client = HttpClient("wire", addresses=addresses)
    with pytest.raises(ProviderUnavailable, match="InvalidURL"):
        post(client, url)
    client.close()
    assert asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(wire, client, status):
    where = f"http://else.example:{wire.port}/"
    wire.answer = answer(b"{}", f"Location: {where}", status=status)

    reply = call(client, wire)

    assert (reply.status, reply.headers["location"]) == (status, where)
    assert len(wire.requests) == 1


def test_cookies_are_not_kept(wire, client):
    wire.answer = answer(b"{}", "Set-Cookie: a=b")
    call(client, wire)
    call(client, wire)

    assert "cookie:" not in wire.requests[1].lower()


def test_headers_of_one_name_are_joined(wire, client):
    wire.answer = answer(b"{}", "X-A: 1", "x-a: 2", "Other: 3", "X-A: 1")

    assert call(client, wire).headers == {
        "content-length": "2",
        "x-a": "1, 2, 1",
        "other": "3",
    }


@pytest.mark.parametrize(
    ("sent", "read"), [("\xc3\xa9", "é"), ("\xe9", "é"), ("\xc3\xa9\xe9", "Ã©é")]
)
def test_headers_are_utf_8_or_else_latin_1(wire, client, sent, read):
    wire.answer = answer(b"{}", f"X-A: {sent}")

    assert call(client, wire).headers["x-a"] == read


@pytest.mark.parametrize("chunked", [0, 9])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (PACKED, ["Content-Encoding: gzip"]),
        (PACKED, ["content-encoding: GZip"]),
        (PACKED, ["Content-Encoding: identity , gzip"]),
        (PACKED, ["Content-Encoding: unknown, gzip"]),
        (gzip.compress(DEFLATED, mtime=0), ["Content-Encoding: deflate, gzip"]),
        (
            gzip.compress(DEFLATED, mtime=0),
            ["Content-Encoding: deflate", "Content-Encoding: gzip"],
        ),
        (DEFLATED, ["Content-Encoding: deflate"]),
        (JSON, ["Content-Encoding: identity"]),
        (JSON, ["Content-Encoding: unknown"]),
        (JSON, ["Content-Encoding: \xe9"]),
        (JSON, ["Content-Encoding:"]),
        # What follows the first member is passed over, and its end is not missed.
        (PACKED + gzip.compress(b"4", mtime=0), ["Content-Encoding: gzip"]),
        (PACKED + b"more", ["Content-Encoding: gzip"]),
        (PACKED[:-8], ["Content-Encoding: gzip"]),
    ],
)
def test_answers_that_are_unpacked(wire, client, body, headers, chunked):
    wire.answer = answer(body, *headers, chunked=chunked)

    assert call(client, wire).payload == READ


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (JSON, "gzip"),
        (b"\xff" * 20, "deflate"),
        (PACKED[:-8] + bytes(8), "gzip"),
        (PACKED, "gzip, gzip"),
        (PACKED, ",".join(["gzip"] * 6)),
    ],
)
def test_answers_that_cannot_be_unpacked_are_malformed(
    wire, client, body, encoding, status
):
    wire.answer = answer(body, f"Content-Encoding: {encoding}", status=status)

    with pytest.raises(ProviderMalformed, match="cannot be unpacked"):
        call(client, wire)


def test_answer_that_cannot_be_unpacked_holds_nothing_once_it_is_handled(wire, client):
    wire.answer = answer(JSON, "Content-Encoding: gzip")
    with collector_off() as held:

        def ask():
            texts = held()
            return call(client, wire), texts

        failing(ask, ProviderMalformed)
        assert held.alive() == 0


def test_packed_answer_that_is_empty_is_no_json(wire, client):
    wire.answer = answer(b"", "Content-Encoding: gzip")

    assert call(client, wire).payload is None


@pytest.mark.parametrize("chunked", [0, 9])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_size_is_bounded_once_unpacked(wire, client, encoding, chunked):
    pack = gzip.compress if encoding == "gzip" else bytes

    def called(size):
        wire.answer = answer(
            pack(b'"' + b"x" * (size - 2) + b'"'),
            f"Content-Encoding: {encoding}",
            chunked=chunked,
        )
        return call(client, wire)

    assert called(1000).payload == "x" * 998
    with pytest.raises(ProviderMalformed, match="more than 1000 bytes"):
        called(1001)


@pytest.mark.parametrize("chunked", [0, 3000])
def test_answer_that_grows_a_thousandfold_is_whole(wire, client, chunked):
    text = "x" * 9_000_000
    body = gzip.compress(f'"{text}"'.encode())
    wire.answer = answer(body, "Content-Encoding: gzip", chunked=chunked)

    assert call(client, wire, max_bytes=10_000_000).payload == text


@pytest.mark.parametrize("spare", [0, 1])
def test_errors_have_a_bound_of_their_own(wire, client, spare):
    text = "x" * (MAX_ERROR_BYTES - 2 + spare)
    wire.answer = answer(f'"{text}"'.encode(), status=400, chunked=9)

    reply = call(client, wire, max_bytes=10)

    assert (reply.status, reply.payload) == (400, None if spare else text)


def test_connection_is_kept_after_an_answer_that_is_read(wire, client):
    for status in (200, 400, 200):
        wire.answer = answer(b"{}", status=status)
        call(client, wire)

    assert wire.connections == 1


@pytest.mark.parametrize(
    ("replied", "max_bytes"),
    [
        (answer(b"1" * 11), 10),
        (answer(b"1" * 11, chunked=9), 10),
        (answer(b"{}"), None),
        (answer(JSON, "Content-Encoding: gzip"), 10),
        (b"no HTTP\r\n\r\n", 10),
    ],
    ids=["long", "long and chunked", "not read", "not unpacked", "no HTTP"],
)
def test_connection_is_not_used_again_after_another(wire, client, replied, max_bytes):
    wire.answer = replied
    try:
        reply = call(client, wire, max_bytes=max_bytes)
    except (ProviderMalformed, ProviderUnavailable):
        reply = None
    assert reply is None or reply.payload is None

    wire.answer = answer(b"{}")
    assert call(client, wire).payload == {}
    assert wire.connections == 2
    assert len(client._pool().connections) == 1


def test_closed_client_opens_new_connections(wire, client):
    call(client, wire)
    client.close()
    client.close()
    call(client, wire)

    assert wire.connections == 2
