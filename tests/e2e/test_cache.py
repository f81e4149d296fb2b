"""The cache that two workers share."""

import secrets
from concurrent.futures import ThreadPoolExecutor

import requests

from tests.waiting import poll

TEXT = "computed by one of the two"


def size(server):
    return server.get("/api/v1/embeddings/health").json()["cache_stats"]["size"]


def misses(server):
    counters = server.get("/api/v1/embeddings/metrics").json()["counters"]
    return sum(
        sample["value"]
        for sample in counters["embedding_cache_lookups_total"]
        if sample["result"] == "miss"
    )


def test_worker_finds_what_the_other_one_computed(open_handed_server):
    server = open_handed_server

    def is_found():
        text, before = f"{TEXT} {secrets.token_hex(4)}", size(server)
        (vector,) = server.embed([text])
        try:
            poll(lambda: size(server) > before, seconds=5, what="the row in the store")
        except AssertionError:
            return False  # a store that is slow for a moment costs a row
        computed = misses(server)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: server.embed([text]), range(24)))
        assert answers == [[vector]] * 24
        return misses(server) == computed

    # A worker learns within a second that another test cleared the cache.
    poll(is_found, seconds=60, what="a text that is not computed again")


def test_clear_empties_the_cache_of_both(open_handed_server):
    server = open_handed_server
    server.embed(["to be forgotten"])
    poll(lambda: size(server), seconds=20, what="the row in the store")
    answer = requests.delete(
        f"{server.api}/embeddings/cache", headers=server.headers, timeout=60
    )
    assert answer.json()["cleared"] >= 1
    assert {size(server) for _ in range(12)} == {0}
