"""A collector: takes OTLP over HTTP as protobuf, and keeps spans and metrics to be looked at."""

import gzip
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)

KINDS = {1: "internal", 2: "server", 3: "client"}


@dataclass(frozen=True)
class Span:
    """One span; ids are in hexadecimal, `parent` is empty for the first of a trace. Times are in nanoseconds."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    began: int
    ended: int
    failed: bool
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    state: str


class Collector:
    """Listens at `url`. While it is `away`, it answers nobody: 503."""

    def __init__(self):
        self.spans: list[Span] = []
        self.points: dict[str, list[tuple[dict[str, Any], Any]]] = {}
        self.headers: list[dict[str, str]] = []
        self.away = False
        self.turned_away = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def trace(self, trace: str) -> list[Span]:
        """Return the spans of a trace that came so far."""
        return [span for span in list(self.spans) if span.trace == trace]

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            self._take_spans(ExportTraceServiceRequest.FromString(body))
        elif path == "/v1/metrics":
            self._take_metrics(ExportMetricsServiceRequest.FromString(body))

    def _take_spans(self, sent):
        for group in sent.resource_spans:
            resource = _plain(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [
                    Span(
                        name=span.name,
                        kind=KINDS[span.kind],
                        trace=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        began=span.start_time_unix_nano,
                        ended=span.end_time_unix_nano,
                        failed=span.status.code == 2,
                        attributes=_plain(span.attributes),
                        resource=resource,
                        state=span.trace_state,
                    )
                    for span in scope.spans
                ]

    def _take_metrics(self, sent):
        for group in sent.resource_metrics:
            service = _plain(group.resource.attributes)["service.name"]
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    self.points.setdefault(f"{service}:{metric.name}", []).extend(
                        (_plain(point.attributes), point)
                        for point in metric.histogram.data_points
                    )


def _plain(attributes) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


def _handler_of(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if collector.away:
                collector.turned_away += 1
            else:
                collector.headers.append(dict(self.headers.items()))
                collector.take(self.path, body)
            self.send_response(503 if collector.away else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format, *args):
            """Keep the output clean."""

    return Handler
