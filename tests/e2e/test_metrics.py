"""The counters at /metrics, over all processes."""

from concurrent.futures import ThreadPoolExecutor

from prometheus_client.parser import text_string_to_metric_families

from tests.test_observability import QUERIES, Names, own_metrics
from tests.waiting import poll

# Nothing counts these before something is wrong, or set up.
OF_FAULTS = (
    "embedding_cache_store_failures",
    "embedding_space",
    "embedding_pool",  # no pool is set up
)


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


def test_what_the_dashboard_and_the_alerts_ask_for_is_there(server):
    """A server that answered a request, one by fallback, says it under the names and labels that they use."""
    server.post({"input": "looked at", "model": "text-embedding-3-small"})
    families = text_string_to_metric_families(server.get("/metrics").text)
    found = {s.name: {*s.labels} for family in families for s in family.samples}
    asked = {
        name: labels - {"job", "instance"}
        for _, query, _ in QUERIES
        for name, labels in Names(query).series
        if name in own_metrics() and not name.startswith(OF_FAULTS)
    }
    assert len(asked) > 15
    assert {
        name: labels
        for name, labels in asked.items()
        if not labels <= found.get(name, set())
    } == {}


def test_levels_are_those_of_all_processes(server):
    poll(
        lambda: server.counter("embedding_processes") >= 2,
        what="a web process and the engine",
    )
    assert server.counter("embedding_process_memory_bytes") > 50 * 2**20
    assert server.counter("embedding_degraded") == 0
    server.embed(["a text that waits in no queue"])
    assert server.counter("embedding_engine_queued_tokens") == 0
