"""The counters at /metrics, over all processes."""

from concurrent.futures import ThreadPoolExecutor

from tests.waiting import poll


def test_counters_follow_the_requests(server):
    before = server.counter("embedding_requests_total")
    tokens = server.counter("embedding_prompt_tokens_total")
    answer = server.post({"input": "counted", "model": "text-embedding-3-small"})
    assert server.counter("embedding_requests_total") == before + 1
    used = answer.json()["usage"]["prompt_tokens"]
    assert server.counter("embedding_prompt_tokens_total") == tokens + used


def test_fallback_is_counted(server):
    before = server.counter("embedding_fallbacks_total")
    answer = server.post({"input": "counted", "model": "text-embedding-3-small"})
    assert answer.headers["X-Embeddings-Fallback-From"] == "openai"
    assert server.counter("embedding_fallbacks_total") == before + 1


def test_two_workers_add_up_and_every_scrape_says_the_same(open_handed_server):
    server = open_handed_server
    before = server.counter("embedding_requests_total")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: server.embed([f"Text {number}"]), range(64)))
    found = {server.counter("embedding_requests_total") for _ in range(10)}
    assert found == {before + 64}


def test_nobody_is_at_work_when_all_is_answered(open_handed_server):
    open_handed_server.embed(["the last one"])
    poll(
        lambda: open_handed_server.counter("embedding_active_requests") == 0,
        seconds=10,
        what="no active request",
    )
