"""What only Linux has is taken from Python: as macOS, where the server is developed, the rest must do."""

import os

import pytest

from tests.e2e.server import MODEL
from tests.waiting import poll

pytestmark = pytest.mark.sqlite_only("what the system has")

# Read by Python before anything else is imported. `os.waitid` came to macOS with Python 3.13.
WITHOUT = """
import os, select, signal, socket
for module, names in {
    os: "eventfd getresuid memfd_create pidfd_open posix_fadvise posix_fallocate sched_getaffinity"
    " sched_setaffinity splice waitid",
    select: "epoll",
    signal: "pidfd_send_signal sigtimedwait sigwaitinfo",
    socket: "SO_PEERCRED SO_REUSEPORT",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
"""


def test_it_serves_and_works_on_jobs_where_nothing_of_linux_is(launch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    server = launch(
        PYTHONPATH=str(tmp_path),
        WEB_CONCURRENCY=str(os.cpu_count()),
        MEDIA_WORKERS="1",
    )
    server.wait_until_ready()
    assert len(server.embed(["one", "two"])) == 2
    media = server.post({"title": "any", "content": "still here"}, path="/media").json()
    path = f"/media/{media['media_id']}/embeddings"
    job = server.post({"embedding_model": MODEL}, path=path).json()["job_id"]
    path = f"/api/v1/media/embeddings/jobs/{job}"
    poll(lambda: server.get(path).json()["status"] == "completed", what="the job")
    assert server.stop() == 0
    assert "Traceback" not in server.output
