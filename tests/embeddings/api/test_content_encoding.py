import gzip
import io
import json
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from backports import zstd
from rest_framework.exceptions import ParseError

from embeddings.api.content_encoding import (
    CompressedBody,
    DecompressedBody,
    encoding_of,
)
from tests.fakes import MINILM

URL = "/api/v1/embeddings"
BODY = json.dumps({"input": ["one", "two"], "model": f"onnx:{MINILM}"}).encode()
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd.compress,
}
PER_ENCODING = pytest.mark.parametrize("encoding", COMPRESS)


@pytest.fixture
def send(client, fakes):
    """Return a function that posts `body` as it is, under a Content-Encoding."""

    def post(body, encoding):
        return client.post(
            URL,
            body,
            content_type="application/json",
            headers={"Content-Encoding": encoding},
        )

    return post


@PER_ENCODING
def test_compressed_body_is_answered_like_the_plain_one(send, encoding):
    answer = send(COMPRESS[encoding](BODY), encoding)
    assert answer.status_code == 200
    assert answer.json() == send(BODY, "identity").json()


@pytest.mark.parametrize("encoding", ["GZIP", "x-gzip", " gzip "])
def test_encoding_is_named_in_any_case_and_by_its_old_name(send, encoding):
    assert send(gzip.compress(BODY, mtime=0), encoding).status_code == 200


@PER_ENCODING
def test_body_of_several_compressed_parts_is_read_to_its_end(send, encoding):
    compress = COMPRESS[encoding]
    assert send(compress(BODY[:20]) + compress(BODY[20:]), encoding).status_code == 200


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, zstd", "gzip,gzip", "*"])
def test_other_encodings_are_refused_and_those_accepted_named(send, encoding):
    answer = send(BODY, encoding)
    assert answer.status_code == 415
    assert "gzip, zstd or identity" in answer.json()["detail"]
    assert answer["Accept-Encoding"] == "gzip, zstd, identity"


@PER_ENCODING
def test_body_that_ends_too_early_is_refused_as_such(send, encoding):
    answer = send(COMPRESS[encoding](BODY)[:-6], encoding)
    assert answer.status_code == 400
    assert f"{encoding} data ends before it is complete" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", BODY),
        ("zstd", BODY),
        ("gzip", zlib.compress(BODY)),
        ("gzip", gzip.compress(BODY, mtime=0)[:10] + b"\xff" * 60),
        ("gzip", gzip.compress(BODY, mtime=0)[:-8] + b"\0" * 8),
        ("gzip", gzip.compress(BODY, mtime=0) + b"rest"),
        ("zstd", zstd.compress(BODY) + b"rest"),
    ],
    ids=range(7),
)
def test_body_that_is_not_what_its_encoding_says_is_refused_as_such(
    send, encoding, body
):
    answer = send(body, encoding)
    assert answer.status_code == 400
    assert f"not the {encoding} data" in answer.json()["detail"]


@PER_ENCODING
def test_content_over_the_limit_is_refused_however_small_it_was_sent(
    send, configure, encoding
):
    configure(max_body_bytes=2000)
    answer = send(COMPRESS[encoding](BODY + b" " * 2000), encoding)
    assert answer.status_code == 413


@PER_ENCODING
def test_bomb_takes_no_more_memory_than_what_is_read_of_it(encoding):
    bomb = io.BytesIO(COMPRESS[encoding](bytes(2**24)))
    tracemalloc.start()
    try:
        assert DecompressedBody(CompressedBody(bomb), encoding).read(2**16) == bytes(
            2**16
        )
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_zstd_window_over_8_mib_is_refused_before_memory_is_taken():
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    compressor = zstd.ZstdCompressor(options=options)
    frame = compressor.compress(bytes(2**16)) + compressor.flush()
    with pytest.raises(ParseError, match="not the zstd data"):
        DecompressedBody(CompressedBody(io.BytesIO(frame)), "zstd").read(1)


def test_plain_body_needs_no_encoding():
    assert encoding_of("") is encoding_of("Identity") is None


@PER_ENCODING
def test_body_of_thousands_of_empty_parts_is_refused(send, encoding):
    answer = send(COMPRESS[encoding](b"") * 1000 + COMPRESS[encoding](BODY), encoding)
    assert answer.status_code == 400
    assert "more than 1000 parts" in answer.json()["detail"]


class Dripping:
    """A connection that brings one byte at a time."""

    def __init__(self, body):
        self._body = io.BytesIO(body)

    def read(self, size):
        return self._body.read(min(size, 1))


@PER_ENCODING
@pytest.mark.parametrize("size", [1, 7, 2**20])
def test_content_is_the_same_however_it_arrives_and_is_read(encoding, size):
    content = bytes(300) + BODY + bytes(range(256)) * 3
    compress = COMPRESS[encoding]
    sent = compress(content[:500]) + compress(b"") + compress(content[500:])
    body = DecompressedBody(CompressedBody(Dripping(sent)), encoding)
    assert b"".join(iter(lambda: body.read(size), b"")) == content
