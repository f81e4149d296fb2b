"""Jobs that are killed, all over again: they end, their chunks are exact, and no search sees them half done."""

import signal

import psutil
import pytest

from tests.e2e.under_fire import SlowUpstream, UnderFire, Watch
from tests.waiting import poll

# tests/e2e/random_kills.py has more of them, at random moments.
TARGETS = (
    "task worker",
    "cluster parent",
    "cluster group",
    "web worker",
    "everything",
)


@pytest.fixture(scope="module")
def fire(prepared_weights, tmp_path_factory):
    with SlowUpstream() as upstream:
        fire = UnderFire(tmp_path_factory.mktemp("fire"), upstream)
        yield fire
        fire.end()


@pytest.mark.parametrize("target", TARGETS)
def test_killed_job_is_run_again_and_never_seen_half_done(fire, target):
    with Watch(fire) as watch:
        job_id = fire.next_job()
        fire.fire(target, job_id)
        job = fire.finished(job_id)
    assert job["status"] == "completed", job
    fire.check_chunks()
    assert watch.problems == []
    assert watch.answers


def test_sigterm_ends_all_processes_and_the_job_goes_on_at_the_next_start(fire):
    job_id = fire.next_job()
    processes = fire.everything()
    fire.server.process.send_signal(signal.SIGTERM)
    assert fire.server.process.wait(40) == 0
    poll(lambda: not psutil.wait_procs(processes, 0)[1], seconds=5, what="no process")
    sql = f"SELECT status, attempts FROM media_jobs_job WHERE public_id = '{job_id}'"
    assert fire.rows(sql) == [("queued", 0)]
    fire.start()
    job = fire.finished(job_id)
    assert (job["status"], job["attempts"]) == ("completed", 1)
    fire.check_chunks()


def test_worker_that_is_stopped_where_it_is_is_replaced(fire):
    stopped = fire.child("runworker")
    job_id = fire.next_job()
    stopped.suspend()
    poll(lambda: not stopped.is_running(), seconds=30, what="the worker's end")
    assert fire.finished(job_id)["status"] == "completed"
    fire.check_chunks()
    assert "worker_stands_still" in fire.server.output
