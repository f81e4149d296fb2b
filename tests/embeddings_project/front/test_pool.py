"""Few jobs are at work at a time, and none waits for one that only waits."""

import contextvars
import threading

import pytest

from embeddings_project.front import pool as pool_module
from embeddings_project.front.pool import AT_WORK, PATIENCE_SECONDS, Pool
from providers.waiting import aside
from tests.waiting import poll


class Jobs:
    """Work that stays until it is let go, or waits for others first."""

    def __init__(self):
        self.begun = []
        self.done = []
        self.go = threading.Event()
        self.waits_for_others = threading.Event()

    def work(self, job):
        self.begun.append(job)
        if job == "waits":
            with aside.get()():
                assert self.waits_for_others.wait(20)
        assert self.go.wait(20)
        self.done.append(job)


@pytest.fixture
def jobs():
    jobs = Jobs()
    yield jobs
    jobs.waits_for_others.set()
    jobs.go.set()


def begun(jobs, count):
    poll(lambda: len(jobs.begun) == count, what=f"{count} begun")


def test_few_jobs_are_at_work_and_the_rest_follow_in_order(jobs):
    pool = Pool(jobs.work, size=64, name="test", timer=lambda: 0.0)
    for number in range(AT_WORK + 5):
        pool.put(number)
    begun(jobs, AT_WORK)
    assert pool.look()
    assert len(jobs.begun) == AT_WORK
    jobs.go.set()
    begun(jobs, AT_WORK + 5)
    assert sorted(jobs.begun[:AT_WORK]) == [*range(AT_WORK)]
    poll(lambda: len(jobs.done) == AT_WORK + 5, what="all done")
    assert not pool.look()


def test_a_job_that_waits_for_others_gives_its_place_to_the_next(jobs):
    pool = Pool(jobs.work, size=64, name="test", timer=lambda: 0.0)
    for job in ["waits"] * 10 + ["plain"] * (AT_WORK + 1):
        pool.put(job)
    begun(jobs, 10 + AT_WORK)
    assert jobs.begun.count("waits") == 10
    jobs.waits_for_others.set()
    jobs.go.set()
    poll(lambda: len(jobs.done) == 11 + AT_WORK, what="all done")


def test_a_job_that_takes_long_is_not_waited_for(jobs):
    now = [0.0]
    pool = Pool(jobs.work, size=64, name="test", timer=lambda: now[0])
    for number in range(2 * AT_WORK + 1):
        pool.put(number)
    begun(jobs, AT_WORK)
    now[0] = PATIENCE_SECONDS * 2
    assert pool.look()
    begun(jobs, 2 * AT_WORK)
    jobs.go.set()
    poll(lambda: len(jobs.done) == 2 * AT_WORK + 1, what="all done")
    for number in range(2 * AT_WORK):  # no place was lost, and none was made
        pool.put(f"again {number}")
    poll(lambda: len(jobs.done) == 4 * AT_WORK + 1, what="all done again")
    assert pool._at_work == 0


def test_what_a_job_s_own_threads_wait_for_changes_nothing():
    def work(job):
        """Wait in threads with the job's context, as requests to an upstream in parts do."""

        def wait():
            with aside.get()():
                pass

        contexts = [contextvars.copy_context() for _ in range(8)]
        threads = [threading.Thread(target=one.run, args=[wait]) for one in contexts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done.append(job)

    done = []
    pool = Pool(work, size=8, name="test")
    for number in range(20):
        pool.put(number)
    poll(lambda: len(done) == 20, what="all done")
    poll(lambda: pool._at_work == 0, what="nobody at work")


def test_no_more_threads_than_the_pool_has(jobs, monkeypatch):
    monkeypatch.setattr(pool_module, "AT_WORK", 10)
    pool = Pool(jobs.work, size=2, name="test")
    for number in range(5):
        pool.put(number)
    begun(jobs, 2)
    jobs.go.set()
    poll(lambda: len(jobs.done) == 5, what="all done")
