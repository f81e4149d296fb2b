"""Under `serve` each web process keeps to one core, where all cores get as many of them."""

import os

import pytest

pytestmark = pytest.mark.sqlite_only("where processes run")


@pytest.mark.parametrize("affinity", ["true", "false"])
def test_each_web_process_keeps_to_one_core_and_the_engine_has_all(launch, affinity):
    cores = os.sched_getaffinity(0)
    server = launch(WEB_CONCURRENCY=str(len(cores)), WEB_AFFINITY=affinity)
    server.wait_until_ready()
    workers = server.workers()
    kept = [worker.cpu_affinity() for worker in workers]
    if affinity == "true":
        assert sorted(kept) == [[core] for core in sorted(cores)]
    else:
        assert kept == [sorted(cores)] * len(cores)
    assert set(server.engine().cpu_affinity()) == cores
    for worker in workers:  # others of its threads, too
        assert all(
            os.sched_getaffinity(thread.id) == set(worker.cpu_affinity())
            for thread in worker.threads()
        )
