"""The stub server that the upstreams share: threads, records, faults, checks.

with OpenAIUpstream() as upstream:
    ...  # upstream.base_url, upstream.calls, upstream.fault = Fault.HANG
"""

import base64
import json
import threading
import time
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from tests.upstreams import faults
from tests.upstreams.faults import Fault
from tests.upstreams.vectors import vectors_for


@dataclass(frozen=True)
class RecordedCall:
    """One request that came in; header names are lower-case."""

    path: str
    headers: dict[str, str]
    body: object
    at: float


class Refusal(Exception):
    """The request breaks the service's rules: status and its own error body."""

    def __init__(self, status, payload, headers=None):
        super().__init__(status)
        self.status = status
        self.payload = payload
        self.headers = headers or {}


class StubUpstream:
    """A service on 127.0.0.1. Derive and write `answer`, `render` and `error`.

    `calls` are all requests in order of arrival; `fault_count` None means for ever.
    """

    api_key = "sk-stub-key-4f9a8b7c6d5e"
    path_prefix = ""
    # Only formats that carry an index or another mark can be shuffled unharmed.
    indexed = False

    def __init__(self):
        self.calls = []
        self.fault = None
        self.fault_count = None
        self.slow_seconds = 0.2
        self.retry_after_seconds = 1
        self.redirect_to = ""
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler_for(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.002}
        )

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self.close()

    def close(self):
        """Stop serving, free the port and let hanging handlers go."""
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self):
        """The server's own URL, without the path that a provider's base URL has."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def base_url(self):
        """What the operator would configure."""
        return self.address + self.path_prefix

    # -- for the services ---------------------------------------------------

    def answer(self, path, headers, body):
        """Return `(texts, input_type, dimensions, context)`, or raise Refusal."""
        raise NotImplementedError

    def render(self, rows, indexes, context):
        """Return the good answer's JSON for rows of floats (or base64 strings)."""
        raise NotImplementedError

    def error(self, status, message):
        """Return the service's error body."""
        raise NotImplementedError

    def answer_headers(self, context):
        """Return more headers of the good answer."""
        return {}

    def fault_error(self, fault):
        """Return `(payload, headers)` for a fault that is a status."""
        status = faults.STATUS[fault]
        headers = {}
        if fault is Fault.THROTTLED_SECONDS:
            headers["Retry-After"] = str(self.retry_after_seconds)
        if fault is Fault.THROTTLED_DATE:
            moment = time.time() + self.retry_after_seconds
            headers["Retry-After"] = formatdate(moment, usegmt=True)
        message = (
            f"Stub failure for key {self.api_key} at {self.base_url}/v1?key=abc\x07"
        )
        return self.error(status, message), headers

    # -- for the handler ----------------------------------------------------

    def record(self, call):
        """Keep `call`, and return the fault that it meets."""
        with self._lock:
            self.calls.append(call)
            if self.fault_count is None:
                return self.fault
            self.fault_count -= 1
            return self.fault if self.fault_count >= 0 else None

    def respond_to(self, handler, call, fault):
        if fault in faults.STATUS:
            payload, headers = self.fault_error(fault)
            handler.respond(faults.STATUS[fault], faults.dumps(payload), headers)
            return
        try:
            body, headers = self._good_answer(call, fault)
        except Refusal as refusal:
            body = faults.dumps(refusal.payload)
            handler.respond(refusal.status, body, refusal.headers)
            return
        if fault is Fault.SLOW:
            self._stopping.wait(self.slow_seconds)
        if not faults.send(fault, handler, body, self._stopping):
            handler.respond(200, body, headers)

    def _good_answer(self, call, fault):
        answered = self.answer(call.path, call.headers, call.body)
        texts, input_type, dimensions, context = answered
        rows = vectors_for(texts, dimensions, input_type).tolist()
        rows = faults.ROWS.get(fault, lambda unchanged: unchanged)(rows)
        indexes = list(range(len(rows)))
        if context.get("base64") and fault not in faults.NEEDS_LISTS:
            rows = [_base64(row) for row in rows]
        if fault is Fault.SHUFFLED:
            rows, indexes = rows[::-1], indexes[::-1]
        if fault is Fault.DUPLICATE:
            indexes = [0] * len(rows) if len(rows) > 1 else [1]
        payload = self.render(rows, indexes, context)
        return faults.dumps(payload, fault), self.answer_headers(context)

    def require(self, condition, status, message):
        """Refuse with the service's error body unless `condition`."""
        if not condition:
            raise Refusal(status, self.error(status, message))

    def require_fields(self, body, required, optional, status=400):
        """Refuse a body that is no object, lacks a field or has one too many."""
        self.require(isinstance(body, dict), status, "body must be an object")
        missing = set(required) - set(body)
        self.require(not missing, status, f"missing field: {sorted(missing)}")
        unknown = set(body) - set(required) - set(optional)
        self.require(not unknown, status, f"unknown field: {sorted(unknown)}")

    def require_texts(self, texts, max_items, status=400):
        """Refuse anything but 1 to `max_items` non-empty strings."""
        strings = isinstance(texts, list) and all(
            isinstance(text, str) and text for text in texts
        )
        self.require(strings and texts, status, "input must be non-empty strings")
        self.require(
            len(texts) <= max_items, status, f"at most {max_items} inputs per request"
        )


def _base64(row):
    return base64.b64encode(np.array(row, dtype="<f4").tobytes()).decode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Say nothing: clients that give up are what the faults are for."""


def _handler_for(upstream):
    return type("_BoundHandler", (_Handler,), {"upstream": upstream})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    upstream: StubUpstream

    def do_POST(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        call = RecordedCall(self.path, headers, body, time.monotonic())
        self.upstream.respond_to(self, call, self.upstream.record(call))

    def do_GET(self):
        call = RecordedCall(self.path, dict(self.headers), None, time.monotonic())
        self.upstream.record(call)
        self.respond(404, b"{}")

    def respond(self, status, body, headers=None):
        self.respond_head(status, {"Content-Length": len(body), **(headers or {})})
        self.wfile.write(body)

    def respond_head(self, status, headers):
        self.send_response(status)
        headers = {"Content-Type": "application/json", **headers}
        if "Content-Length" not in headers:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, format, *args):
        """Keep the test output clean."""
