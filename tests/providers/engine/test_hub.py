"""Fetching from a hub: a local server that speaks as much of the protocol as huggingface_hub needs."""

import hashlib
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

from providers.engine import files
from providers.engine.hub import Hub
from providers.engine.weights import Weights
from providers.exceptions import (
    ProviderDenied,
    ProviderMisconfigured,
    ProviderUnavailable,
    UnknownModel,
)
from tests.providers.engine import tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "org/hubbed"


class FakeHub(ThreadingHTTPServer):
    """Serves one folder as one repository; faults are set by the tests."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.requests = []
        self.fault = None
        self.cuts = []
        self.damaged = False

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


@pytest.fixture
def repository(tmp_path):
    folder = tiny.write_model(tmp_path / "repository")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "README.md").write_text("text")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"not needed for a BERT")
    return folder


@pytest.fixture
def hub(repository, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    server = FakeHub(repository)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def weights(hub, tmp_path):
    return Weights(tmp_path / "data", hub=Hub(endpoint=hub.endpoint, token="hf_secret"))


def test_only_the_files_needed_are_fetched_at_one_commit(hub, weights):
    prepared = weights.prepare(NAME)
    assert prepared.manifest.revision == COMMIT
    assert prepared.runtime == "graph"
    fetched = {
        path.split(f"/resolve/{COMMIT}/")[1]
        for command, path, *_ in hub.requests
        if "/resolve/" in path
    }
    assert {
        "config.json",
        "tokenizer.json",
        "1_Pooling/config.json",
        "model.safetensors",
    } <= fetched
    assert not {"pytorch_model.bin", "README.md", "onnx/model.onnx"} & fetched
    assert {authorization for *_, authorization in hub.requests} == {"Bearer hf_secret"}


def test_a_prepared_model_needs_no_hub(hub, weights):
    weights.prepare(NAME)
    hub.requests.clear()
    weights.prepare(NAME)
    assert hub.requests == []


def age(prepared):
    """Leave a prepared model as an older version did, whose graphs had another name."""
    for path in prepared.path.glob("graph-v*"):
        path.rename(path.with_name(f"graph-v0{path.suffix}"))
    manifest = files.read_manifest(prepared.path)
    kept = {n: r for n, r in manifest.files.items() if not n.startswith("graph-v")}
    old = files.record_of(prepared.path / "graph-v0.onnx")
    files.write_manifest(
        prepared.path, replace(manifest, files={**kept, "graph-v0.onnx": old})
    )


def test_what_an_older_version_prepared_is_made_anew_without_the_hub(hub, weights):
    before = weights.prepare(NAME)
    age(before)
    hub.requests.clear()
    assert weights.find(NAME) is None
    assert weights.outdated() == [NAME]
    assert weights.prepare(NAME).manifest == before.manifest
    assert weights.outdated() == []
    assert hub.requests == []
    assert not list(before.path.glob("graph-v0*"))


def test_damaged_checkpoint_of_an_older_version_is_fetched_again(hub, weights):
    before = weights.prepare(NAME)
    age(before)
    (before.path / "model.safetensors").write_bytes(b"cut")
    hub.requests.clear()
    assert weights.prepare(NAME).manifest == before.manifest
    assert any("model.safetensors" in path for _, path, *_ in hub.requests)


def test_a_cut_download_is_taken_up_again(hub, weights):
    hub.cuts = [3000]
    assert weights.prepare(NAME).runtime == "graph"
    fetched = [
        path
        for command, path, *_ in hub.requests
        if command == "GET" and path.endswith("model.safetensors")
    ]
    assert len(fetched) == 2


def test_files_that_arrived_before_a_failure_are_not_fetched_again(hub, weights):
    hub.cuts = [0] * 50
    with pytest.raises(ProviderUnavailable):
        weights.prepare(NAME)
    assert weights.find(NAME) is None
    hub.cuts = []
    hub.requests.clear()
    assert weights.prepare(NAME).runtime == "graph"
    fetched = [
        path
        for command, path, *_ in hub.requests
        if command == "GET" and "/resolve/" in path
    ]
    assert [path.rsplit("/", 1)[1] for path in fetched] == ["model.safetensors"]


def test_a_file_with_another_hash_is_thrown_away(hub, weights):
    hub.damaged = True
    with pytest.raises(ProviderUnavailable, match="damaged"):
        weights.prepare(NAME)
    assert weights.find(NAME) is None
    hub.damaged = False
    assert weights.prepare(NAME)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ((404, "RepoNotFound"), UnknownModel),
        ((401, "RepoNotFound"), UnknownModel),
        ((401, "GatedRepo"), ProviderDenied),
        ((403, "GatedRepo"), ProviderDenied),
        ((403, ""), ProviderDenied),
        ((500, ""), ProviderUnavailable),
        ((503, ""), ProviderUnavailable),
    ],
)
def test_the_hubs_refusals_are_told_apart(hub, weights, fault, error):
    hub.fault = fault
    with pytest.raises(error) as raised:
        weights.prepare(NAME)
    assert type(raised.value) is error
    assert "hf_secret" not in raised.value.message
    assert hub.endpoint not in raised.value.message


def test_no_network_is_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    weights = Weights(tmp_path / "data", hub=Hub(endpoint="http://127.0.0.1:9"))
    with pytest.raises(ProviderUnavailable):
        weights.prepare(NAME)


def test_a_repository_with_nothing_but_pickles_is_refused(hub, weights, repository):
    (repository / "model.safetensors").unlink()
    (repository / "onnx" / "model.onnx").unlink()
    with pytest.raises(ProviderMisconfigured, match="pickled"):
        weights.prepare(NAME)
