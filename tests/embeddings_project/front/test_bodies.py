"""Bodies: however they are cut on their way, within their bounds."""

import random

import pytest

from embeddings_project.front.bodies import IN_MEMORY_BYTES, Chunks, Incoming
from embeddings_project.front.limits import Budget, Pace
from embeddings_project.front.refusals import Refused

CHUNKED = (
    b"5\r\nhello\r\n1;name=value\r\n \r\n05 \r\nworld\r\n0\r\nX-Trailer: a\r\n\r\n"
)
OVER = Refused(413, "too large")


def incoming(tmp_path, *, length=None, most=10**9, budget=None):
    return Incoming(
        length=length,
        most=most,
        over=OVER,
        budget=budget or Budget(10**9),
        folder=tmp_path,
        pace=Pace(rate=1000, seconds=60, now=0),
    )


def test_chunks_are_put_together_however_they_are_cut(tmp_path):
    for seed in range(200):
        rng, body = random.Random(seed), incoming(tmp_path)
        rest, left = CHUNKED + b"GET /next", b""
        while rest:
            size = rng.randint(1, 7)
            piece, rest = rest[:size], rest[size:]
            left = left + piece if body.whole else body.feed(piece)
        assert body.whole
        assert body.file().read() == b"hello world"
        assert left == b"GET /next"
        body.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b"5\nhello",
        b"\r\n",
        b"2\r\nabc",
        b"2\r\nab\n",
        b"1" * 16 + b"\r\n",
        b"1;\x00\r\n",
        b"1" + b";" * 5000,
        b"0\r\n nonsense\r\n",
        b"0\r\n\n",
    ],
)
def test_malformed_chunks_are_refused(raw):
    with pytest.raises(Refused) as refused:
        Chunks().feed(raw)
    assert refused.value.status == 400


def test_endless_trailers_are_refused():
    chunks = Chunks()
    with pytest.raises(Refused) as refused:
        chunks.feed(b"0\r\n" + b"X-A: b\r\n" * 2000)
    assert refused.value.status == 431


def test_body_of_a_known_length_leaves_what_follows(tmp_path):
    body = incoming(tmp_path, length=5)
    assert body.feed(b"he") == b""
    assert body.feed(b"lloGET") == b"GET"
    assert body.whole
    assert body.file().read() == b"hello"
    body.close()


def test_chunked_body_over_the_limit_is_refused_before_its_end(tmp_path):
    body = incoming(tmp_path, most=10)
    with pytest.raises(Refused) as refused:
        body.feed(b"b\r\nhello world")
    assert refused.value is OVER
    body.close()


def test_large_bodies_of_all_clients_share_one_bound(tmp_path):
    budget = Budget(3 * 2**20)
    first = incoming(tmp_path, length=2**22, budget=budget)
    second = incoming(tmp_path, length=2**22, budget=budget)
    first.feed(bytes(2**21))
    with pytest.raises(Refused) as refused:
        second.feed(bytes(2**21))
    assert refused.value.status == 503
    assert refused.value.headers["Retry-After"]
    first.close()
    second.close()
    third = incoming(tmp_path, length=2**22, budget=budget)
    third.feed(bytes(2**21))  # what was given back is there
    third.close()


def test_small_bodies_need_no_share_of_the_bound(tmp_path):
    body = incoming(tmp_path, length=2**16, budget=Budget(0))
    body.feed(bytes(2**16))
    assert body.whole
    body.close()


def test_large_body_is_read_back_from_its_file(tmp_path):
    content = random.Random(1).randbytes(IN_MEMORY_BYTES * 2)
    body = incoming(tmp_path, length=len(content))
    for at in range(0, len(content), 2**16):
        body.feed(content[at : at + 2**16])
    assert body.file().read() == content
    assert list(tmp_path.iterdir()) == []  # it has no name
    body.close()


@pytest.mark.parametrize(
    ("bytes_at", "slow_at"),
    [
        ({}, 11),  # nothing comes
        (dict.fromkeys(range(100), 100), 11),  # a trickle
        ({0: 10**6}, 61),  # a large part, then nothing
        ({0: 10**6, **dict.fromkeys(range(1, 300), 1)}, 61),  # then a trickle
        (dict.fromkeys(range(300), 2000), None),
        ({0: 5000, 8: 100_000, 50: 100_000, 100: 100_000, 150: 10**6, 200: 10**5}, 261),
    ],
)  # fmt: skip
def test_whoever_rests_or_trickles_is_too_slow(bytes_at, slow_at):
    pace = Pace(rate=1000, seconds=60, now=0)
    found = None
    for second in range(300):
        if pace.too_slow(second):
            found = second
            break
        pace.note(bytes_at.get(second, 0), second)
    assert found == slow_at
