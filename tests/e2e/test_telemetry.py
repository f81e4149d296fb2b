"""What a collector gets: two servers, one behind the other, and a collector that takes OTLP."""

import contextlib
import re

import pytest
import requests
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from tests.e2e.server import MODEL, Server
from tests.otlp import Collector
from tests.upstreams import Fault, OpenAIUpstream
from tests.waiting import poll

OPENAI = "text-embedding-3-small"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SECRET_TEXT = "a text that nobody but the model may read"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def collector():
    with Collector() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def upstream():
    with OpenAIUpstream() as stub:
        yield stub


@pytest.fixture(scope="module")
def servers(prepared_weights, migrated, collector, upstream, tmp_path_factory):
    """A gateway in front of a stub of OpenAI, and of a second server of ours, which has the model."""
    shared = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=embeddings",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "WEB_CONCURRENCY": "1",
        "EMBEDDINGS_CANARY": "off",
    }
    inner = Server(
        tmp_path_factory.mktemp("inner"),
        database=migrated,
        SINGLE_USER_ACCEPT_BEARER="true",
        OTEL_SERVICE_NAME="inner",
        **shared,
    )
    gateway = Server(
        tmp_path_factory.mktemp("gateway"),
        database=migrated,
        OPENAI_API_KEY=upstream.api_key,
        OPENAI_BASE_URL=upstream.base_url,
        LOCAL_API_URL=inner.api,
        LOCAL_API_KEY=key_of(inner),
        OTEL_SERVICE_NAME="gateway",
        MEDIA_WORKERS="1",
        **shared,
    )
    yield gateway.wait_until_ready(), inner.wait_until_ready()
    gateway.end()
    inner.end()


def key_of(server):
    file = server.data_dir / "api_key"
    return poll(lambda: file.exists() and file.read_text().strip(), what="a key")


@pytest.fixture
def gateway(servers, upstream):
    yield servers[0]
    upstream.fault = upstream.fault_count = None
    servers[0].post({}, path="/embeddings/circuit-breakers/openai/reset")


def spans_of(collector, answer, *names):
    """Wait until the trace of an answer has spans of these names, and return its spans by name."""
    asked = answer.headers["X-Request-ID"]

    def found():
        for span in list(collector.spans):
            if span.attributes.get("embeddings.request_id") == asked:
                spans = collector.trace(span.trace)
                if {*names} <= {one.name for one in spans}:
                    return spans
        return None

    return poll(found, what=f"the spans {names}")


def children(spans, parent):
    return sorted((s for s in spans if s.parent == parent.id), key=lambda s: s.began)


def the(spans, name):
    (found,) = [span for span in spans if span.name == name]
    return found


def ask(server, text, model, **headers):
    body = {"input": text, "model": model, "encoding_format": "base64"}
    return server.post(body, **headers)


def test_a_local_request_is_a_tree_from_http_down_to_the_engines_queue(
    gateway, collector
):
    answer = ask(
        gateway, "not seen before", MODEL, traceparent=CALLER, tracestate="k=v"
    )
    spans = spans_of(collector, answer, "POST /api/v1/embeddings")
    root = the(spans, "POST /api/v1/embeddings")
    assert (root.trace, root.parent, root.state) == (*CALLER.split("-")[1:3], "k=v")
    assert root.kind == "server"
    said = root.attributes
    assert said["http.request.method"] == "POST"
    assert said["http.route"] == "/api/v1/embeddings"
    assert said["http.response.status_code"] == 200
    assert said["gen_ai.request.encoding_formats"] == ["base64"]
    assert said["gen_ai.request.model"] == MODEL
    tokens = answer.json()["usage"]["prompt_tokens"]
    assert said["gen_ai.usage.input_tokens"] == tokens
    (target,) = children(spans, root)
    assert [one.name for one in children(spans, target)] == ["tokenise", "cache"]
    cache = the(spans, "cache")
    assert cache.attributes["embeddings.cache_hits"] == 0
    (call,) = children(spans, cache)
    assert (call.name, call.kind) == (f"embeddings {MINILM}", "internal")
    assert call.attributes["gen_ai.provider.name"] == "huggingface"
    assert call.attributes["gen_ai.embeddings.dimension.count"] == 384
    queue, infer = children(spans, call)
    assert (queue.name, infer.name) == ("queue", "infer")
    assert root.began <= call.began <= queue.began <= infer.began
    assert queue.ended <= infer.began + 1000
    assert infer.ended <= call.ended <= root.ended
    assert not any(span.failed for span in spans)
    assert root.resource["service.name"] == "gateway"


def test_a_cached_request_calls_no_model(gateway, collector):
    ask(gateway, "once and again", MODEL)
    answer = ask(gateway, "once and again", MODEL)
    spans = spans_of(collector, answer, "POST /api/v1/embeddings")
    assert the(spans, "cache").attributes["embeddings.cache_hits"] == 1
    assert not [span for span in spans if span.name.startswith("embeddings ")]


def test_a_trace_goes_on_through_a_server_behind_this_one(gateway, collector):
    answer = ask(
        gateway,
        "far away",
        f"local_api:{MODEL}",
        traceparent=CALLER.replace("0af7", "1af7"),
    )
    spans = spans_of(collector, answer, "POST /api/v1/embeddings", "infer")
    outer, inner = sorted(
        (span for span in spans if span.name == "POST /api/v1/embeddings"),
        key=lambda span: span.began,
    )
    assert (outer.resource["service.name"], inner.resource["service.name"]) == (
        "gateway",
        "inner",
    )
    sent = the(spans, "POST")
    assert inner.parent == sent.id
    assert sent.kind == "client"
    assert sent.attributes["server.address"] == "127.0.0.1"
    call = the(spans, f"embeddings {sent_model(spans)}")
    assert sent.parent == the(spans, "upstream").id
    assert the(spans, "upstream").parent == call.id
    assert call.kind == "client"


def sent_model(spans):
    (name,) = [
        span.attributes["gen_ai.request.model"]
        for span in spans
        if span.kind == "client" and "gen_ai.request.model" in span.attributes
    ]
    return name


def test_an_upstream_is_told_which_step_calls_it(gateway, collector, upstream):
    answer = ask(gateway, "told", OPENAI)
    spans = spans_of(collector, answer, "POST /api/v1/embeddings")
    told = upstream.calls[-1].headers["traceparent"]
    sent = the(spans, "POST")
    assert told == f"00-{sent.trace}-{sent.id}-01"
    assert sent.attributes["http.response.status_code"] == 200
    call = the(spans, f"embeddings {OPENAI}")
    assert call.attributes["gen_ai.provider.name"] == "openai"
    assert call.attributes["server.port"] == sent.attributes["server.port"]
    assert call.attributes["gen_ai.usage.input_tokens"] > 0


def test_retries_and_a_fallback_show_where_the_time_went(gateway, collector, upstream):
    upstream.fault = Fault.OVERLOADED
    answer = ask(gateway, "on the long way", OPENAI)
    assert answer.headers["X-Embeddings-Fallback-From"] == "openai"
    spans = spans_of(collector, answer, "POST /api/v1/embeddings")
    first, second = children(spans, the(spans, "POST /api/v1/embeddings"))
    assert first.attributes["embeddings.provider"] == "openai"
    assert (first.failed, first.attributes["error.type"]) == (True, "unavailable")
    assert second.attributes["embeddings.provider"] == "huggingface"
    assert not second.failed
    tries = sorted(
        (span for span in spans if span.name == "POST"), key=lambda s: s.began
    )
    assert [t.attributes.get("http.request.resend_count", 0) for t in tries] == [
        0,
        1,
        2,
    ]
    assert {t.attributes["http.response.status_code"] for t in tries} == {503}
    assert all(t.failed for t in tries)


def test_a_refused_request_is_a_span_of_its_status(gateway, collector):
    answer = ask(gateway, "", MODEL)
    root = the(spans_of(collector, answer), "POST /api/v1/embeddings")
    assert root.attributes["http.response.status_code"] == 400
    assert not root.failed  # the client's doing


@pytest.mark.parametrize(
    "sent",
    [
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "no trace",
        f"{CALLER}, {CALLER}",
        "0" * 5000,
    ],
)
def test_a_parent_that_makes_no_sense_begins_a_new_trace(gateway, collector, sent):
    answer = ask(gateway, "whose child", MODEL, traceparent=sent)
    assert answer.status_code == 200
    root = the(spans_of(collector, answer), "POST /api/v1/embeddings")
    assert root.parent == ""
    assert re.fullmatch("[0-9a-f]{32}", root.trace)


def test_what_a_client_does_not_sample_is_not_sent(gateway, collector, upstream):
    unsampled = CALLER.replace("0af7", "2af7")[:-1] + "0"
    ask(gateway, "not sampled", OPENAI, traceparent=unsampled)
    told = upstream.calls[-1].headers["traceparent"]
    assert (told[3:35], told[-2:]) == (unsampled[3:35], "00")
    spans_of(collector, ask(gateway, "sampled, afterwards", MODEL))
    assert collector.trace(unsampled[3:35]) == []


def test_metrics_count_requests_calls_and_tokens(gateway, collector):
    answer = ask(gateway, "measured", OPENAI)
    assert answer.status_code == 200

    def counted(name, **attributes):
        points = collector.points.get(f"gateway:{name}", [])
        fits = [
            point
            for said, point in points
            if all(
                said.get(key.replace("__", ".")) == value
                for key, value in attributes.items()
            )
        ]
        return fits[-1] if fits else None

    spent = poll(
        lambda: counted("gen_ai.client.token.usage", gen_ai__provider__name="openai"),
        what="tokens",
    )
    assert spent.sum >= answer.json()["usage"]["prompt_tokens"]
    assert list(spent.explicit_bounds)[:4] == [1, 4, 16, 64]
    assert counted("gen_ai.client.operation.duration", gen_ai__provider__name="openai")
    assert counted(
        "gen_ai.server.request.duration", gen_ai__request__model=f"openai:{OPENAI}"
    )
    assert counted("http.server.request.duration", http__route="/api/v1/embeddings")


def test_a_job_is_one_trace_of_the_worker(gateway, collector):
    made = gateway.post(
        {"title": "t", "content": "A document of some words."}, path="/media"
    )
    assert made.status_code == 201, made.text
    media = made.json()["media_id"]
    started = gateway.post(
        {"embedding_model": MODEL}, path=f"/media/{media}/embeddings"
    )
    assert started.status_code == 202, started.text
    job = started.json()["job_id"]

    def found():
        return next(
            (
                s
                for s in list(collector.spans)
                if s.attributes.get("embeddings.job_id") == job
            ),
            None,
        )

    root = poll(found, what="the job's span")
    assert root.name == "media job"
    spans = poll(
        lambda: [s for s in collector.trace(root.trace) if s.name == "infer"],
        what="infer",
    )
    assert spans


def test_a_collector_that_is_away_costs_no_request_and_one_line(gateway, collector):
    collector.away = True
    try:
        before = collector.turned_away
        for number in range(5):
            assert ask(gateway, f"unseen {number}", MODEL).status_code == 200
        poll(lambda: collector.turned_away > before, what="a refusal")
    finally:
        collector.away = False
    answer = ask(gateway, "seen again", MODEL)
    spans_of(collector, answer, "POST /api/v1/embeddings")
    lines = [
        line
        for line in gateway.log_lines()
        if str(line.get("logger", "")).startswith("opentelemetry")
    ]
    assert len(lines) <= 2  # one of each process that sends: web and worker


def test_nothing_that_was_sent_holds_a_text_a_key_or_an_unknown_name(
    gateway, collector, upstream
):
    ask(gateway, SECRET_TEXT, MODEL)
    spans_of(collector, ask(gateway, "the last", MODEL))
    written = repr(collector.spans) + repr([*collector.points.values()])
    for secret in (SECRET_TEXT, gateway.key, upstream.api_key, gateway.key[:20]):
        assert secret not in written
    known = {
        value for value in vars(gen_ai_attributes).values() if isinstance(value, str)
    }
    used = {
        name
        for span in collector.spans
        for name in span.attributes
        if name.startswith("gen_ai.")
    }
    assert used <= known
    assert "embeddings" in {one.get("x-tenant") for one in collector.headers}


def test_a_stop_sends_what_is_left(collector, launch):
    server = launch(
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="600000",
        OTEL_METRIC_EXPORT_INTERVAL="600000",
        OTEL_SERVICE_NAME="stopped",
        SINGLE_USER_API_KEY="a-key-of-this-test-alone",
        WEB_CONCURRENCY="1",
        # No model is loaded for this.
        EMBEDDINGS_ENGINE="inline",
        EMBEDDINGS_FALLBACK="off",
    )

    def serves():
        with contextlib.suppress(requests.ConnectionError):
            return server.get("/api/v1/embeddings/models")

    def came(answer):
        asked = answer.headers["X-Request-ID"]
        sent = [s.attributes.get("embeddings.request_id") for s in collector.spans]
        return asked in sent

    answer = poll(serves, seconds=60, what="an answer")
    assert not came(answer)
    server.stop()
    assert came(answer)
    assert "stopped:http.server.request.duration" in collector.points


def test_a_setting_that_makes_no_sense_stops_the_start(launch):
    server = launch(
        OTEL_EXPORTER_OTLP_ENDPOINT="collector:4318",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_TRACES_SAMPLER_ARG="ten percent",
    )
    said = server.wait_for_refusal()
    assert "OTEL_EXPORTER_OTLP_ENDPOINT must be an http:// or https:// URL" in said
    assert "OTEL_EXPORTER_OTLP_PROTOCOL must be one of http/protobuf" in said
    assert "OTEL_TRACES_SAMPLER_ARG must be a share from 0 to 1" in said
