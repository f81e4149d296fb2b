"""The server as a gateway: four workers in front of stub upstreams that are as strict as the real services."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from providers.breaker import LOOK_AGAIN_SECONDS
from providers.operator_settings import REFRESH_SECONDS
from tests.contract.cases import REMOTE_CASES
from tests.e2e.server import MODEL, Server
from tests.upstreams import Fault, OpenAIUpstream, vectors_for
from tests.upstreams.local_api import LOCAL_MODEL
from tests.waiting import poll, settled

TIMEOUT_SECONDS = 3.0
# Far more than a busy machine adds, far less than an upstream that hangs or a locked database would cost.
LATE_SECONDS = 15.0
# One case a provider: local_api speaks its other formats in the contract suite.
CASES = {case.name: case for case in REMOTE_CASES if not case.options}
OPENAI = "text-embedding-3-small"
# What still passes through the gateway.
HARMLESS = (Fault.SLOW, Fault.SHUFFLED, Fault.MARKED)
PASSED_ON = (Fault.NO_SUCH_MODEL,)


@pytest.fixture(scope="module")
def upstreams():
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(case.upstream()) for name, case in CASES.items()
        }


@pytest.fixture(scope="module")
def elsewhere():
    """Where a redirect would lead; nothing may arrive there."""
    with OpenAIUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(prepared_weights, migrated, upstreams, tmp_path_factory):
    environment: dict[str, Any] = {
        "WEB_CONCURRENCY": "4",
        "EMBEDDINGS_REQUEST_TIMEOUT": str(TIMEOUT_SECONDS),
        "EMBEDDINGS_CANARY": "off",  # its checks would be calls, too
        "EMBEDDINGS_CACHE_SIZE": "100000",  # whatever is asked before a test, its rows stay
    }
    for name, case in CASES.items():
        key, url = case.provider.key_variable, case.provider.url_variable
        environment |= {key: upstreams[name].api_key, url: upstreams[name].base_url}
    running = Server(
        tmp_path_factory.mktemp("gateway"), database=migrated, **environment
    )
    yield running.wait_until_ready()
    running.end()


@pytest.fixture
def openai(gateway, upstreams):
    """OpenAI's stub with a closed breaker and nothing cached, left as it was found."""
    upstream = upstreams["openai"]
    reset(gateway)
    upstream.calls.clear()
    yield upstream
    upstream.fault = upstream.fault_count = None
    reset(gateway)


def reset(gateway):
    answer = gateway.post({}, path="/embeddings/circuit-breakers/openai/reset")
    assert answer.status_code == 200, answer.text


def rows(response):
    assert response.status_code == 200, response.text
    return np.array([item["embedding"] for item in response.json()["data"]], np.float32)


def texts(count, name="text"):
    return [f"{name} number {number}" for number in range(count)]


@pytest.mark.parametrize("count", [1, 97, 130, 300])
@pytest.mark.parametrize("name", list(CASES))
def test_every_provider_answers_in_order_by_prefix_and_by_header(gateway, name, count):
    case = CASES[name]
    expected = vectors_for(texts(count, f"{name} {count}"), case.dimensions)
    body = {"input": texts(count, f"{name} {count}"), "model": f"{name}:{case.model}"}
    response = gateway.post(body)
    np.testing.assert_allclose(rows(response), expected, atol=1e-6)
    assert response.headers["X-Embeddings-Provider"] == name
    body = {"input": texts(count, f"{name} {count} again"), "model": case.model}
    response = gateway.post(body, **{"x-provider": name.upper()})
    expected = vectors_for(texts(count, f"{name} {count} again"), case.dimensions)
    np.testing.assert_allclose(rows(response), expected, atol=1e-6)
    label = case.model if name == "openai" else f"{name}:{case.model}"
    assert response.json()["model"] == label


def test_usage_is_the_upstream_s_own_figure(gateway):
    # The stub counts words; the tokenizer would count more.
    response = gateway.post({"input": "internationalisation counts", "model": OPENAI})
    assert response.json()["usage"]["prompt_tokens"] == 2


def test_input_type_reaches_the_provider(gateway):
    body = {"input": "who asks", "model": "cohere:embed-v4.0", "dimensions": 256}
    response = gateway.post(body, **{"X-Embeddings-Input-Type": "query"})
    np.testing.assert_allclose(
        rows(response), vectors_for(["who asks"], 256, "query"), atol=1e-6
    )
    assert response.headers["X-Embeddings-Dimensions-Policy"] == "reduce"


def secrets(gateway, upstream):
    return [upstream.api_key, upstream.base_url, upstream.address, gateway.key]


def assert_tells_nothing(gateway, upstream, response):
    said = response.text + str(response.headers)
    for secret in secrets(gateway, upstream):
        assert secret not in said


@pytest.mark.parametrize("fault", [f for f in Fault if f not in HARMLESS + PASSED_ON])
def test_every_fault_of_an_upstream_ends_in_the_documented_fallback(
    gateway, openai, elsewhere, fault
):
    openai.fault, openai.redirect_to = fault, elsewhere.base_url
    body = {"input": [f"{fault.name} one", f"{fault.name} two"], "model": OPENAI}
    response = gateway.post(body)
    assert response.headers["X-Embeddings-Fallback-From"] == "openai"
    assert response.json()["model"] == MODEL
    expected = gateway.embed(body["input"])
    np.testing.assert_allclose(rows(response), expected, atol=1e-6)
    assert response.elapsed.total_seconds() < LATE_SECONDS
    assert_tells_nothing(gateway, openai, response)
    assert elsewhere.calls == []


@pytest.mark.parametrize("fault", [f for f in Fault if f not in HARMLESS + PASSED_ON])
def test_every_fault_of_an_upstream_is_a_503_without_a_fallback(
    gateway, openai, elsewhere, fault
):
    openai.fault, openai.redirect_to = fault, elsewhere.base_url
    body = {"input": [f"{fault.name} three", f"{fault.name} four"], "model": OPENAI}
    response = gateway.post(body, **{"X-Embeddings-Fallback": "off"})
    assert response.status_code == 503
    assert "openai" in response.json()["detail"]
    assert int(response.headers["Retry-After"]) >= 1
    assert response.elapsed.total_seconds() < LATE_SECONDS
    assert_tells_nothing(gateway, openai, response)


@pytest.mark.parametrize("fault", HARMLESS)
def test_slow_shuffled_and_marked_answers_are_put_right(gateway, openai, fault):
    openai.fault = fault
    asked = texts(5, fault.name)
    response = gateway.post({"input": asked, "model": OPENAI})
    np.testing.assert_allclose(rows(response), vectors_for(asked, 1536), atol=1e-6)


def test_an_upstream_that_does_not_know_the_model_is_passed_on_as_404(gateway, openai):
    openai.fault = Fault.NO_SUCH_MODEL
    response = gateway.post({"input": "any", "model": OPENAI})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert_tells_nothing(gateway, openai, response)


def open_breaker(gateway, upstream):
    upstream.fault = Fault.UNAUTHORIZED  # not retried, so one request is one call
    for number in range(5):
        gateway.post({"input": f"opens {number} {id(upstream.calls)}", "model": OPENAI})
    assert breaker(gateway)["state"] == "open"
    time.sleep(LOOK_AGAIN_SECONDS)  # a worker that saw no failure looks again then
    upstream.calls.clear()


def breaker(gateway):
    rows = gateway.get("/api/v1/embeddings/circuit-breakers").json()["data"]
    return next(row for row in rows if row["provider"] == "openai")


def ask(gateway, number):
    """Return who answered."""
    answer = gateway.post({"input": f"asks {number}", "model": OPENAI})
    assert "X-Embeddings-Provider" in answer.headers, answer.text + gateway.errors()
    return answer.headers["X-Embeddings-Provider"]


def let_the_open_time_pass(gateway):
    """Move the breaker's own clock mark: no test waits a minute."""
    gateway.rows(
        "UPDATE providers_breaker SET retry_at = '2020-01-01 00:00:00' WHERE provider = 'openai'"
    )


def test_open_breaker_keeps_requests_from_the_upstream_in_all_workers(gateway, openai):
    open_breaker(gateway, openai)
    with ThreadPoolExecutor(16) as pool:
        served = set(pool.map(lambda number: ask(gateway, number), range(80)))
    assert served == {"huggingface"}
    assert openai.calls == []


def test_after_its_time_one_probe_is_elected_among_all_workers(gateway, openai):
    open_breaker(gateway, openai)
    openai.fault = Fault.HANG
    let_the_open_time_pass(gateway)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: ask(gateway, 100 + number), range(40)))
    assert len(openai.calls) == 1
    assert breaker(gateway)["state"] == "open"


def test_breaker_recovers_by_itself(gateway, openai):
    open_breaker(gateway, openai)
    openai.fault = None
    let_the_open_time_pass(gateway)
    assert [ask(gateway, 200 + number) for number in range(4)] == ["openai"] * 4
    assert breaker(gateway)["state"] == "closed"


def test_reset_works_at_once_in_all_workers(gateway, openai):
    open_breaker(gateway, openai)
    openai.fault = None
    reset(gateway)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda number: ask(gateway, 300 + number), range(24))) == {
            "openai"
        }


def test_cached_vectors_are_served_while_the_breaker_is_open(gateway, openai):
    body = {"input": "kept for every worker", "model": OPENAI}
    before = settled(lambda: rows_in_the_cache(gateway), what="rows of earlier tests")
    gateway.post(body)
    poll(lambda: rows_in_the_cache(gateway) > before, what="the row that workers share")
    open_breaker(gateway, openai)
    answers = [gateway.post(body).headers["X-Embeddings-Provider"] for _ in range(8)]
    assert answers == ["openai"] * 8
    assert openai.calls == []


def rows_in_the_cache(gateway):
    return gateway.get("/api/v1/embeddings/health").json()["cache_stats"]["size"]


def test_a_locked_database_never_spoils_a_good_answer(gateway, openai):
    openai.fault, openai.fault_count = Fault.UNAUTHORIZED, 1
    ask(gateway, 400)  # a failure is on the books, so a success wants to write
    openai.fault = None
    with gateway.locked("providers_breaker"):
        response = gateway.post({"input": "still good", "model": OPENAI})
    assert response.headers["X-Embeddings-Provider"] == "openai"
    assert response.elapsed.total_seconds() < LATE_SECONDS


@pytest.mark.sqlite_only("its file is removed; PostgreSQL's is test_database_away.py")
def test_a_database_that_is_away_never_spoils_a_good_answer(launch, openai):
    own = launch(
        OPENAI_API_KEY=openai.api_key,
        OPENAI_BASE_URL=openai.base_url,
        WEB_CONCURRENCY="2",
    ).wait_until_ready()
    for file in own.data_dir.glob("db.sqlite3*"):
        file.unlink()
    assert {ask(own, 500 + number) for number in range(8)} == {"openai"}
    openai.fault = Fault.UNAUTHORIZED
    assert {ask(own, 510 + number) for number in range(8)} == {"huggingface"}


def test_a_change_in_the_registry_reaches_all_workers_within_seconds(gateway):
    def provider_is(enabled, status):
        for change in (
            f"providers_providersetting SET enabled = {enabled} WHERE name = 'mistral'",
            "providers_revision SET number = number + 1",
        ):
            gateway.rows(f"UPDATE {change}")
        # A dozen requests need not reach every worker: from here on each looks again when it is asked next.
        time.sleep(REFRESH_SECONDS)
        poll(
            lambda: statuses() == {status}, seconds=10, what=f"{status} by all workers"
        )

    def statuses():
        return {
            gateway.post({"input": "x", "model": "mistral:mistral-embed"}).status_code
            for _ in range(12)
        }

    try:
        provider_is(False, 403)
    finally:
        provider_is(True, 200)


def test_counters_add_up_over_the_workers(gateway, openai):
    before = gateway.counter("embedding_fallbacks_total")
    openai.fault = Fault.UNAUTHORIZED
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: ask(gateway, 600 + number), range(24)))
    assert gateway.counter("embedding_fallbacks_total") == before + 24


def test_no_key_and_no_address_is_in_the_log(gateway, upstreams):
    log = gateway.output
    for upstream in upstreams.values():
        assert upstream.api_key not in log
        assert upstream.address not in log


def test_local_api_passes_any_model_on(gateway):
    response = gateway.post({"input": "passed on", "model": f"local_api:{LOCAL_MODEL}"})
    assert response.headers["X-Embeddings-Vector-Space"] == f"local_api/{LOCAL_MODEL}"
    assert response.json()["model"] == f"local_api:{LOCAL_MODEL}"
