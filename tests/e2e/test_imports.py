"""What a served process has loaded: no torch, and nothing that only preparing or fetching needs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.server import MODEL, REPOSITORY, Server, clean_environment, free_port

pytestmark = pytest.mark.sqlite_only("what is imported")

HEAVY = {
    "torch",
    "transformers",
    "sentence_transformers",
    "onnx",
    "scipy",
    "sklearn",
    "opentelemetry",
}
# One request through the WSGI application, as gunicorn would call it.
SERVE_ONCE = """
import io, json, sys
from embeddings_project.wsgi import application
body = json.dumps({"model": sys.argv[1], "input": "once"}).encode()
environ = {
    "REQUEST_METHOD": "POST", "PATH_INFO": "/api/v1/embeddings", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
    "HTTP_HOST": "localhost", "HTTP_X_API_KEY": sys.argv[2], "CONTENT_TYPE": "application/json",
    "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body), "wsgi.url_scheme": "http",
    "wsgi.errors": sys.stderr,
}
statuses = []
answer = b"".join(application(environ, lambda status, headers: statuses.append(status)))
print(json.dumps([statuses[0], len(json.loads(answer)["data"][0]["embedding"])]))
"""


@pytest.fixture(scope="module")
def imported(server: Server, tmp_path_factory):
    """The names of all modules that one served request imports, by `python -X importtime`."""
    finished = subprocess.run(
        [
            *(sys.executable, "-X", "importtime", "-c", SERVE_ONCE),
            *(MODEL, server.key),
        ],
        cwd=REPOSITORY,
        env=clean_environment(
            home=tmp_path_factory.mktemp("home"),
            data_dir=server.data_dir,
            port=free_port(),
            EMBEDDINGS_ENGINE="inline",
        ),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(finished.stdout) == ["200 OK", 384]
    return set(re.findall(r"^import time: .*\| +(\S+)$", finished.stderr, re.M))


def test_served_request_imports_no_torch(imported):
    assert {"django", "onnxruntime"} <= imported
    assert not HEAVY & {name.partition(".")[0] for name in imported}


def test_served_process_has_no_torch_mapped(server):
    server.embed(["loaded by now"])
    for process in server.members():
        mapped = Path(f"/proc/{process.pid}/maps")
        if not mapped.exists():
            pytest.skip("Only Linux tells what a process has mapped.")
        assert "torch" not in mapped.read_text()
