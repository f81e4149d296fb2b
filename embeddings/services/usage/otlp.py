"""What OpenTelemetry's SDK does here: samples, and sends finished requests as spans and metrics by OTLP over HTTP.

The spans are made of the record of a request once it has ended, so nothing else of the server knows the SDK. It batches
and sends in threads of its own; what a collector does not take in time is dropped.
"""

import contextlib
import os
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from importlib.metadata import version

from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from embeddings.conf import TelemetryConf
from embeddings.services.usage import conventions as names
from embeddings.services.usage.events import Event
from providers import tracing
from providers.state.process import at_end
from providers.tracing import Attributes, Kind, Step, Trace

SERVICE = "embeddings-server"
SCHEMA = "https://opentelemetry.io/schemas/1.37.0"
# What a stop waits for a collector that is slow or away.
CLOSE_SECONDS = 2.0
# As the conventions advise.
HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)  # fmt: skip
AI_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)  # fmt: skip
TOKEN_BUCKETS = tuple(4**power for power in range(14))
KINDS: dict[Kind, api.SpanKind] = {
    "internal": api.SpanKind.INTERNAL,
    "client": api.SpanKind.CLIENT,
    "server": api.SpanKind.SERVER,
}
SAMPLED = api.TraceFlags(api.TraceFlags.SAMPLED)
FAILED = api.Status(api.StatusCode.ERROR)
UNSET = api.Status(api.StatusCode.UNSET)


class Telemetry:
    """The collector as one process sees it."""

    def __init__(self, conf: TelemetryConf) -> None:
        with _environment(conf.environment):
            self._resource = _resource()
            provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
            self._sampler = provider.sampler
            self._spans = (
                BatchSpanProcessor(OTLPSpanExporter()) if conf.traces else None
            )
            self._meters = MeterProvider(
                [PeriodicExportingMetricReader(OTLPMetricExporter())]
                if conf.metrics
                else [],
                resource=self._resource,
                shutdown_on_exit=False,
            )
        self._scope = InstrumentationScope(SERVICE, version(SERVICE), SCHEMA)
        self._measure = _Measures(self._meters)
        self._propagator = TraceContextTextMapPropagator()
        self._at_end = at_end(self._close_in_time)

    def begun(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        headers: Mapping[str, str] | None = None,
    ) -> Trace:
        """Begin a trace, within the step under way or as the W3C headers of a client say."""
        if self._spans is None:
            return Trace(name, trace_id=0, sampled=False, kind=kind)
        outer = tracing.under_way.get()
        if outer is not None:
            return Trace(
                name,
                trace_id=outer.trace.trace_id,
                parent_id=outer.span_id,
                sampled=outer.trace.sampled,
                state=outer.trace.state,
                kind=kind,
            )
        context = self._propagator.extract(headers) if headers else None
        parent = api.get_current_span(context).get_span_context()
        trace_id = parent.trace_id or tracing.new_id(128)
        decided = self._sampler.should_sample(
            context, trace_id, name, KINDS[kind], None, ()
        )
        return Trace(
            name,
            trace_id=trace_id,
            parent_id=parent.span_id,
            sampled=decided.decision is Decision.RECORD_AND_SAMPLE,
            state=parent.trace_state.to_header(),
            kind=kind,
        )

    def record(self, event: Event) -> None:
        """Send a request that has ended."""
        trace = event.trace
        if trace is None:
            return
        root = trace.root
        root.name = event.endpoint
        root.attributes |= names.of_event(event)
        if event.status >= 500:
            root.error = event.code or str(event.status)
        self._measure.request(event, root)
        self.send(trace)
        event.trace = None  # the record itself is kept until it is stored

    def send(self, trace: Trace) -> None:
        """Send the steps of a trace that has ended, if it was sampled, and count its calls of models."""
        for step in trace.steps:
            if names.OPERATION in step.attributes and step is not trace.root:
                self._measure.call(step)
        if self._spans is None or not trace.sampled:
            return
        if trace.dropped:
            trace.root.attributes["embeddings.steps_left_out"] = trace.dropped
        for step in trace.steps:
            self._spans.on_end(self._span(trace, step))

    def close(self) -> None:
        """Send what is left, within a moment."""
        self._at_end()

    def _close_in_time(self) -> None:
        closing = threading.Thread(target=self._close, name="telemetry", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _close(self) -> None:
        if self._spans:
            self._spans.shutdown()  # type: ignore[no-untyped-call]
        self._meters.shutdown()

    def _span(self, trace: Trace, step: Step) -> ReadableSpan:
        error: Attributes = {names.ERROR: step.error} if step.error else {}
        state = api.TraceState.from_header([trace.state]) if trace.state else None

        def context(span_id: int, *, remote: bool) -> api.SpanContext:
            return api.SpanContext(trace.trace_id, span_id, remote, SAMPLED, state)

        remote = step is trace.root and step.kind == "server"
        return ReadableSpan(
            name=step.name,
            context=context(step.span_id, remote=False),
            parent=context(step.parent_id, remote=remote) if step.parent_id else None,
            resource=self._resource,
            attributes=step.attributes | error,
            kind=KINDS[step.kind],
            status=FAILED if step.error else UNSET,
            start_time=int(trace.wall_time(step.began) * 1e9),
            end_time=int(trace.wall_time(step.ended) * 1e9),
            instrumentation_scope=self._scope,
        )


class _Measures:
    """The conventions' histograms."""

    def __init__(self, meters: MeterProvider) -> None:
        meter = meters.get_meter(SERVICE, version(SERVICE), SCHEMA)
        self._http = meter.create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=HTTP_BUCKETS,
        )
        self._server = meter.create_histogram(
            "gen_ai.server.request.duration",
            unit="s",
            description="Requests for embeddings, from the request to its answer.",
            explicit_bucket_boundaries_advisory=AI_BUCKETS,
        )
        self._call = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="Calls of models, with their retries.",
            explicit_bucket_boundaries_advisory=AI_BUCKETS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Tokens of calls of models, where the provider says how many.",
            explicit_bucket_boundaries_advisory=TOKEN_BUCKETS,
        )

    def request(self, event: Event, root: Step) -> None:
        said = root.attributes
        error: Attributes = {names.ERROR: root.error} if root.error else {}
        if names.STATUS in said:
            self._http.record(event.seconds, _of(said, names.OF_HTTP) | error)
        if names.OPERATION in said:
            provider = event.provider or event.asked.partition(":")[0]
            named: Attributes = {names.PROVIDER: names.well_known(provider)}
            said = _of(said, names.OF_MODELS) | named | error
            self._server.record(event.seconds, said)

    def call(self, step: Step) -> None:
        said = _of(step.attributes, names.OF_CALLS)
        error: Attributes = {names.ERROR: step.error} if step.error else {}
        self._call.record(step.ended - step.began, said | error)
        tokens = step.attributes.get(names.INPUT_TOKENS)
        if isinstance(tokens, int):
            self._tokens.record(tokens, {**said, names.TOKEN_TYPE: "input"})


def _of(attributes: Attributes, kept: tuple[str, ...]) -> Attributes:
    return {name: attributes[name] for name in kept if name in attributes}


def _resource() -> Resource:
    """Return what names this process: the environment's words for the service first."""
    given = Resource.create()
    own: dict[str, str | int] = {
        "service.version": version(SERVICE),
        "service.instance.id": str(uuid.uuid4()),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    named = str(given.attributes.get("service.name", "unknown_service"))
    name = SERVICE if named.startswith("unknown_service") else named
    return Resource(own).merge(given).merge(Resource({"service.name": name}))


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have the SDK read the settings, which may come from a file, where it looks for them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
