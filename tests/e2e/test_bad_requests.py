"""What no well-behaved client sends: every answer is a 4xx with a readable body, never a 500, never a dropped line."""

import gzip
import json
import os
import socket

import pytest

from tests.e2e.server import MODEL

PATH = "/api/v1/embeddings"
LIMIT = 32 * 2**20


def exchange(server, method="POST", path=PATH, body=None, *, key=True, **headers):
    """Send one request as given and return (status, headers, body). A body of several pieces goes chunked."""
    connection = server.connect()
    fields = {"Content-Type": "application/json", **(server.headers if key else {})}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body, fields)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def refused(answer, status):
    """Check that an answer is the API's own refusal, and return its sentence."""
    found, headers, body = answer
    assert found == status, body
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Request-ID"]
    problem = json.loads(body)
    assert problem["error"]["message"] == problem["detail"]
    return problem["detail"]


def with_input(raw):
    """Return a body with `raw`, JSON or not, as its input."""
    return b'{"model": "%s", "input": %s}' % (MODEL.encode(), raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (rb'"\ud800"', "not valid JSON"),
        (b'"\xed\xa0\x80"', "not valid JSON"),
        (b'"\xff"', "not valid JSON"),
        (rb'"a\u0000b"', "input must not contain NUL"),
        (rb'["fine", "a\u0000b"]', "input[1]"),
        (b"NaN", "not valid JSON"),
        (b"[1, Infinity]", "not valid JSON"),
        (b"[1.0]", "input[0]"),
        (b"[true]", "input[0]"),
        (b"[-1]", "input[0]"),
        (b"[1e400]", "not valid JSON"),
        (b"[99999999999999999999999]", "input[0]"),
        (b'[1, "a"]', "input[1]"),
        (b'["a", 1]', "input[1]"),
        (b'["a", null]', "input[1]"),
        (b'["a", " \\n "]', "input[1]"),
        (b"[[1], []]", "input[1]"),
        (b'[[1], ["a"]]', "input[1]"),
        (b"[[[1]]]", "input[0]"),
        (b"[]", "input"),
        (b'""', "input"),
        (b"null", "input"),
        (b"true", "input"),
        (b"1", "input"),
        (b"{}", "input"),
        (b"[100256]", "input[0]"),
        (b"[[1], [2147483647]]", "input[1]"),
        (b"[" * 5000 + b"]" * 5000, "not valid JSON"),
        (b'["x"' + b', "x"' * 2048 + b"]", "2048"),
        (b'"x"', "dimensions"),
    ],
)
def test_bad_input_is_refused_with_its_place(server, raw, words):
    body = with_input(raw)
    if words == "dimensions":
        body = body[:-1] + b', "dimensions": 8193}'
    assert words in refused(exchange(server, body=body), 400)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dimensions", 1.5),
        ("dimensions", "64"),
        ("dimensions", True),
        ("encoding_format", "hex"),
        ("user", "u" * 257),
        ("user", 7),
        ("model", ""),
        ("model", None),
        ("model", "m" * 600),
        ("temperature", 1),
    ],
)
def test_bad_field_is_refused_and_named(server, field, value):
    body = json.dumps({"model": MODEL, "input": "x", field: value})
    assert field in refused(exchange(server, body=body), 400)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b"\x00", b"a=b"])
def test_body_that_is_no_json_object_is_refused(server, body):
    assert refused(exchange(server, body=body), 400)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "nonsense"]
)
def test_other_content_type_is_refused(server, content_type):
    answer = exchange(server, body=with_input(b'"x"'), Content_Type=content_type)
    assert "application/json" in refused(answer, 415)


def test_charset_beside_the_content_type_is_fine(server):
    answer = exchange(
        server,
        body=with_input(b'"x"'),
        Content_Type="application/json; charset=utf-8",
    )
    assert answer[0] == 200


def test_chunked_body_is_read(server):
    pieces = iter([b'{"model": "', MODEL.encode(), b'", "input": "in pieces"}'])
    assert exchange(server, body=pieces)[0] == 200


def test_announced_body_over_the_limit_is_refused(server):
    body = with_input(b'"' + b"x" * LIMIT + b'"')
    assert str(LIMIT) in refused(exchange(server, body=body), 413)


def test_chunked_body_over_the_limit_is_refused(server):
    body = (b"x" * 2**20 for _ in range(33))
    assert str(LIMIT) in refused(exchange(server, body=body), 413)


def test_chunked_compressed_body_over_the_limit_is_refused(server):
    noise = gzip.compress(os.urandom(33 * 2**20), compresslevel=0)
    pieces = (noise[at : at + 2**20] for at in range(0, len(noise), 2**20))
    answer = exchange(server, body=pieces, Content_Encoding="gzip")
    assert str(LIMIT) in refused(answer, 413)


def test_huge_announced_length_is_refused_before_the_body_is_there(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as line:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: {server.key}\r\n"
        head += "Content-Type: application/json\r\n"
        line.sendall(f"{head}Content-Length: {10**12}\r\n\r\n".encode())
        assert line.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("length", ["-1", "x", "1, 2", "0x10"])
def test_nonsense_length_is_refused(server, length):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as line:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: {server.key}\r\n"
        line.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
        assert line.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_client_that_waits_for_100_continue_is_answered(server):
    body = with_input(b'"expected"')
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as line:
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: {server.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Expect: 100-continue\r\n\r\n"
        )
        line.sendall(head.encode())
        assert line.recv(4096).startswith(b"HTTP/1.1 100 ")
        line.sendall(body)
        assert line.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_huge_header_is_refused(server):
    status, _, _ = exchange(server, body=with_input(b'"x"'), X_Big="x" * 100_000)
    assert 400 <= status < 500


@pytest.mark.parametrize("name", ["X-Request-ID", "x-provider", "X-API-KEY"])
def test_odd_bytes_in_a_header_never_fail_the_server(server, name):
    connection = server.connect()
    connection.request(
        "POST",
        PATH,
        with_input(b'"x"'),
        {**server.headers, "Content-Type": "application/json", name: "h\xe9\xff"},
    )
    assert connection.getresponse().status in (200, 400, 401)
    connection.close()


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "FOO"])
def test_other_method_is_refused_with_what_is_allowed(server, method):
    status, headers, _ = exchange(server, method)
    assert status == 405
    assert "POST" in headers["Allow"]


def test_options_is_answered(server):
    status, headers, _ = exchange(server, "OPTIONS")
    assert status == 200
    assert "POST" in headers["Allow"]


@pytest.mark.parametrize("path", ["/api/v1/models", "/healthz", "/docs", "/metrics"])
def test_head_is_answered_without_a_body(server, path):
    status, _, body = exchange(server, "HEAD", path)
    assert (status, body) == (200, b"")


@pytest.mark.parametrize(
    "path", [PATH + "/", "/api/v1/embeddings?x=1", "/api/v1/embeddings/?x=1"]
)
def test_trailing_slash_and_query_change_nothing(server, path):
    assert exchange(server, path=path, body=with_input(b'"x"'))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        f"/api/v1/models/{MODEL}",
        f"/api/v1/models/{MODEL}/",
        f"/api/v1/models/{MODEL.replace('/', '%2F')}",
        f"/api/v1/models/{MODEL.replace('/', '%2F').replace(':', '%3A')}",
    ],
)
def test_model_ids_slash_may_be_percent_encoded(server, path):
    status, _, body = exchange(server, "GET", path)
    assert (status, json.loads(body)["id"]) == (200, MODEL)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1//embeddings",
        "//api/v1/embeddings",
        "/api/v1/embeddings//",
        "/api/v1/%00",
        "/api/v1/%ff%fe",
        "/api/v1/models/..%2f..%2fetc%2fpasswd",
        "/api/v1/models/" + "x" * 3000,
        "/api/v1/models/%ed%a0%80",
        "/nothing",
    ],
)
def test_strange_path_is_never_a_500(server, path):
    status, _, body = exchange(server, "GET", path)
    assert status in (400, 404, 405)
    assert json.loads(body)["detail"]


def test_wrong_key_is_refused_before_the_body_is_looked_at(server):
    answer = exchange(server, body=b"{", key=False, X_API_KEY="wrong")
    assert "not valid" in refused(answer, 401)


def test_bearer_alone_learns_where_the_key_belongs(server):
    answer = exchange(server, key=False, Authorization=f"Bearer {server.key}")
    assert "X-API-KEY" in refused(answer, 401)


def test_foreign_host_is_refused(server):
    assert "ALLOWED_HOSTS" in refused(exchange(server, "GET", Host="evil.example"), 400)


def test_client_that_hangs_up_in_the_middle_disturbs_nobody(server):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as line:
            line.sendall(
                f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\n"
                f"X-API-KEY: {server.key}\r\nContent-Length: 1000\r\n\r\n{{".encode()
            )
    assert server.embed(["still there"])


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"5\r\nab", b"2\r\n{}XX"])
def test_malformed_chunk_is_refused(server, chunk):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as line:
        line.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: {server.key}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            + chunk
        )
        line.shutdown(socket.SHUT_WR)
        assert line.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_refusal_reaches_a_client_that_is_still_sending(server):
    answer = exchange(server, body=b"x" * 20 * 2**20, key=False, X_API_KEY="wrong")
    assert refused(answer, 401)
