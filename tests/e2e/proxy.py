"""A reverse proxy that ends TLS, as nginx in front of the server, with a prefix that it takes away or leaves."""

import http.client
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme

PER_CONNECTION = {"connection", "transfer-encoding", "keep-alive"}


class Proxy:
    def __init__(self, *, port: int, strips: str = "") -> None:
        """Forward to `port` of this machine. `strips` is the prefix to take away."""
        ca = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("localhost").configure_cert(context)
        self.certificate = ca.cert_pem
        handler = type("Handler", (Forward,), {"to_port": port, "strips": strips})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Forward(BaseHTTPRequestHandler):
    to_port: int
    strips: str

    def _forward(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        upstream = http.client.HTTPConnection("127.0.0.1", self.to_port, timeout=60)
        headers = {
            **{k: v for k, v in self.headers.items() if k.lower() != "connection"},
            "X-Forwarded-For": self.client_address[0],
            "X-Forwarded-Proto": "https",
            "Connection": "close",
        }
        path = self.path.removeprefix(self.strips)
        upstream.request(self.command, path, self.rfile.read(length), headers)
        answer = upstream.getresponse()
        body = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in PER_CONNECTION:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        upstream.close()

    do_GET = do_POST = _forward  # noqa: N815  (the base class looks for these)

    def log_message(self, *_: Any) -> None:
        pass
