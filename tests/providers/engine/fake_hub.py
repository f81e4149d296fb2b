"""A hub of models: a local server that speaks as much of the protocol as huggingface_hub needs."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "org/hubbed"


class FakeHub(ThreadingHTTPServer):
    """Serves one folder as one repository; faults are set by the tests. `gate`: weights wait for it."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.requests = []
        self.fault: tuple[int, str] | None = None
        self.cuts = []
        self.damaged = False
        self.gate: threading.Event | None = None

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self):
        return {
            path.relative_to(self.folder).as_posix(): path
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    def handle_error(self, request, client_address):
        pass


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        path = unquote(self.path.split("?")[0])
        self.server.requests.append(
            (
                self.command,
                path,
                self.headers.get("Range"),
                self.headers.get("Authorization"),
            )
        )
        if self.server.fault is not None:
            status, code = self.server.fault
            self._send(
                status, {"X-Error-Code": code, "X-Error-Message": "no"}, b"{}", body
            )
        elif path.startswith("/api/models/"):
            self._send(
                200,
                {"Content-Type": "application/json"},
                json.dumps(self._info()).encode(),
                body,
            )
        else:
            self._send_file(path.split(f"/resolve/{COMMIT}/", 1)[1], body)

    def _info(self):
        siblings = []
        for name, path in self.server.files().items():
            content = path.read_bytes()
            entry = {"rfilename": name, "size": len(content), "blobId": "x"}
            if name.endswith((".safetensors", ".onnx")):
                entry["lfs"] = {
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "size": len(content),
                    "pointerSize": 1,
                }
            siblings.append(entry)
        return {
            "id": NAME,
            "modelId": NAME,
            "sha": COMMIT,
            "siblings": siblings,
            "tags": [],
            "private": False,
        }

    def _send_file(self, name, body):
        content = self.server.files()[name].read_bytes()
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        if self.server.damaged and name.endswith(".safetensors"):
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(
            (self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0]
        )
        if start:
            headers["Content-Range"] = (
                f"bytes {start}-{len(content) - 1}/{len(content)}"
            )
        cuts = self.server.cuts if body and name.endswith(".safetensors") else None
        cut = cuts.pop(0) if cuts else None
        if body and self.server.gate and name.endswith(".safetensors"):
            self.server.gate.wait(60)
        self._send(206 if start else 200, headers, content[start:], body, cut)

    def _send(self, status, headers, content, body, cut=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[:cut])
            if cut is not None:
                self.close_connection = True
