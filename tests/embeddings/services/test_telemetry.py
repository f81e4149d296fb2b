"""What a request leaves at a collector, and what it does where there is none."""

import os
import socket
import threading

import pytest

from embeddings.conf import TelemetryConf
from embeddings.services.usage import otlp
from embeddings.services.usage.telemetry import telemetry
from providers import tracing
from providers.exceptions import ProviderUnavailable
from providers.tracing import MAX_STEPS, Trace, opened, step
from tests.otlp import Collector

SMALL = "text-embedding-3-small"
URL = "POST /api/v1/embeddings"


@pytest.fixture(scope="module")
def receiver():
    with Collector() as collector:
        yield collector


@pytest.fixture
def collect(receiver, configure):
    """Return a function that has traces and metrics sent, and one that ends that and returns what came."""
    receiver.spans.clear()
    receiver.points.clear()

    def begin(*, traces=True, metrics=True, **environment):
        given = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_BSP_SCHEDULE_DELAY": "60000",
            "OTEL_METRIC_EXPORT_INTERVAL": "60000",
            **environment,
        }
        configure(
            telemetry=TelemetryConf(traces=traces, metrics=metrics, environment=given)
        )
        telemetry.cache_clear()
        return telemetry()

    yield begin
    end()


def end():
    if sender := telemetry():
        sender.close()


def spans(receiver):
    end()
    return receiver.spans


def counted(receiver, name):
    points = receiver.points.get(f"embeddings-server:{name}", [])
    return sum(point.count for _, point in points)


def test_nothing_is_kept_where_nothing_is_sent(post):
    assert telemetry() is None
    assert post({"input": "a", "model": SMALL}).status_code == 200
    assert tracing.headers() == {}
    with step("target") as at:
        assert at is None


def test_a_request_names_who_was_asked_and_who_answered(collect, receiver, post):
    collect()
    answer = post({"input": ["a", "b"], "model": SMALL})
    root = next(span for span in spans(receiver) if span.name == URL)
    assert root.attributes["embeddings.request_id"] == answer["X-Request-ID"]
    assert root.attributes["gen_ai.request.model"] == f"openai:{SMALL}"
    assert root.attributes["embeddings.provider"] == "huggingface"
    assert root.attributes["embeddings.texts"] == 2
    assert root.attributes["embeddings.caller"] == "single_user"
    assert root.attributes["url.path"] == "/api/v1/embeddings"


def test_a_provider_that_is_not_set_up_shows_why_another_answered(
    collect, receiver, post
):
    collect()
    post({"input": "a", "model": SMALL})
    targets = [span for span in spans(receiver) if span.name == "target"]
    assert [span.attributes.get("error.type") for span in targets] == [
        "not_configured",
        None,
    ]


def test_an_open_breaker_is_a_call_that_was_not_made(collect, receiver, post, fakes):
    fakes["openai"].problem = None
    fakes["openai"].fault = ProviderUnavailable("openai is down.")
    for number in range(5):
        post({"input": f"text {number}", "model": SMALL})
    collect()
    post({"input": "one more", "model": SMALL})
    (call,) = [s for s in spans(receiver) if s.name == f"embeddings {SMALL}"]
    assert call.attributes["error.type"] == "breaker_open"
    assert call.failed


def test_metrics_count_what_no_trace_is_kept_of(collect, receiver, post):
    collect(OTEL_TRACES_SAMPLER="always_off")
    post({"input": "a", "model": SMALL})
    assert spans(receiver) == []
    assert counted(receiver, "http.server.request.duration") == 1
    assert counted(receiver, "gen_ai.server.request.duration") == 1
    assert counted(receiver, "gen_ai.client.operation.duration") == 1


def test_a_ratio_keeps_a_share(collect, receiver):
    sender = collect(
        OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0.5"
    )
    kept = sum(sender.begun("POST").sampled for _ in range(400))
    assert 100 < kept < 300


def test_metrics_alone_begin_no_trace_that_upstreams_would_continue(
    collect, receiver, post
):
    sender = collect(traces=False)
    with opened(sender.begun("POST").root):
        assert tracing.headers() == {}
    post({"input": "a", "model": SMALL})
    assert spans(receiver) == []
    assert counted(receiver, "http.server.request.duration") == 1


def test_traces_alone_send_no_metrics(collect, receiver, post):
    collect(metrics=False)
    post({"input": "a", "model": SMALL})
    assert spans(receiver)
    assert not receiver.points


def test_the_environment_is_left_as_it_was(collect, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "of the shell")
    collect(OTEL_SERVICE_NAME="of the settings")
    assert os.environ["OTEL_SERVICE_NAME"] == "of the shell"
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in os.environ


def test_a_key_in_a_path_is_not_sent(collect, receiver, client, fakes):
    collect()
    key = "sk-0123456789ab" + "x" * 43
    client.get(f"/api/v1/models/{key}")
    assert key not in repr(spans(receiver))


def test_a_trace_of_very_many_steps_says_that_some_are_left_out(collect, receiver):
    sender = collect()
    trace = sender.begun("media job")
    with opened(trace.root):
        for _ in range(MAX_STEPS + 7):
            with step("POST"):
                pass
    sender.send(trace)
    sent = spans(receiver)
    assert len(sent) == MAX_STEPS + 1
    root = next(span for span in sent if span.name == "media job")
    assert root.attributes["embeddings.steps_left_out"] == 7


def test_a_step_that_fails_says_why_and_lets_the_error_through():
    trace = Trace("POST", trace_id=1)
    with pytest.raises(ProviderUnavailable), opened(trace.root), step("call"):
        raise ProviderUnavailable("It is down.")
    assert [(one.name, one.error) for one in trace.steps] == [
        ("call", "unavailable"),
        ("POST", "unavailable"),
    ]


def test_an_upstreams_address_is_its_host_and_port_alone():
    assert tracing.server_of("https://user:pass@host.example/path?key=1") == {
        "server.address": "host.example",
        "server.port": 443,
    }
    assert tracing.server_of("http://[::1]:8080/v1")["server.port"] == 8080
    assert tracing.server_of("http://host:port") == {}
    assert tracing.server_of("") == {}


def test_a_collector_that_never_answers_holds_up_neither_a_request_nor_the_end(
    collect, post, monkeypatch
):
    monkeypatch.setattr(otlp, "CLOSE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        sender = collect(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_BSP_SCHEDULE_DELAY="1",
            OTEL_BSP_MAX_QUEUE_SIZE="512",
        )
        for _ in range(200):  # more than what waits
            assert post({"input": "a", "model": SMALL}).status_code == 200
        sender.close()
        assert "telemetry" in {thread.name for thread in threading.enumerate()}
