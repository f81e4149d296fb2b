"""An upstream whose model is exchanged while the server is down, found out by several processes together."""

from concurrent.futures import ThreadPoolExecutor

from providers.canary import TEXTS
from tests.upstreams import OpenAIUpstream
from tests.waiting import poll

OPENAI = "text-embedding-3-small"


class Upstream(OpenAIUpstream):
    model_behind = "document"

    def answer(self, path, headers, body):
        texts, _, dimensions, context = super().answer(path, headers, body)
        return texts, self.model_behind, dimensions, context

    @property
    def checks(self):
        return sum(call.body["input"] == list(TEXTS) for call in self.calls)


def ask(server, number):
    """Return whether the answer says that its model drifted."""
    answer = server.post({"input": f"text {number}", "model": OPENAI})
    assert answer.headers["X-Embeddings-Provider"] == "openai"
    return "X-Embeddings-Drift" in answer.headers


def state(server):
    rows = server.get("/api/v1/embeddings/metrics").json()["drift"]
    return [row["state"] for row in rows if row["checked_at"]]


def test_exchanged_model_is_found_by_one_check_after_the_next_start(launch):
    with Upstream() as upstream:
        environment = {
            "WEB_CONCURRENCY": "2",
            "OPENAI_API_KEY": upstream.api_key,
            "OPENAI_BASE_URL": upstream.base_url,
        }
        first = launch(**environment).wait_until_ready()
        with ThreadPoolExecutor(8) as pool:
            assert not any(pool.map(lambda number: ask(first, number), range(40)))
        poll(lambda: state(first) == ["ok"], seconds=20, what="a first check")
        assert upstream.checks == 1
        first.stop()
        upstream.model_behind = "another model"
        second = launch(data_dir=first.data_dir, **environment).wait_until_ready()
        ask(second, 100)
        poll(lambda: state(second) == ["drifted"], seconds=20, what="drift")
        poll(lambda: ask(second, 101), seconds=20, what="an answer that says so")
        assert upstream.checks == 2
        assert 'embedding_space_drift{model="text-embedding-3-small"' in (
            second.get("/metrics").text
        )
