"""What makes sure that no job is forgotten: its run died or hangs, its call was lost, or nobody answers the calls."""

import os
from collections.abc import Callable, Collection

import structlog
from django.db import DatabaseError, InterfaceError
from django.db.models import Q

from media_jobs.models import Job
from media_jobs.services.claims import (
    PAUSES_AFTER_DEATH,
    ClaimLost,
    due_jobs,
    hand_back,
    try_again,
    worker_id,
)
from media_jobs.services.heartbeat import Watch
from media_jobs.services.worker_calls import call_worker, waiting_calls

# Seconds without a heartbeat after which this worker ends its own process, and after which it puts another worker's
# job back: that worker's own supervisor should have acted by then.
HUNG_SECONDS = 75.0
SILENT_SECONDS = 105.0
DIED = "The process that ran this job died."
HUNG = "The process that ran this job stopped responding."
SILENT = "The worker that ran this job was not heard of any more."

log = structlog.get_logger(__name__)


def put_back_lost(
    watch: Watch,
    *,
    dead: Collection[str] = (),
    end: Callable[[int], None] = lambda pid: None,
) -> int:
    """Put jobs back whose runs died or hang, and return their number.

    `dead`: workers of which no process lives. `end` kills a process of this worker, before anything is written: it may
    hold a lock in the database.
    """
    try:
        jobs = list(Job.objects.filter(status=Job.Status.PROCESSING))
    except (DatabaseError, InterfaceError):
        watch.forget()  # nobody could be heard
        raise
    silence = watch.look({job.claim: job.heartbeat_at for job in jobs})
    found = {job: _why_lost(job.claim, silence[job.claim], dead) for job in jobs}
    lost = {job: reason for job, reason in found.items() if reason}
    # A process runs one job: where it beats for another, it has left this one behind and is well.
    busy = {_pid(job.claim) for job in jobs if job not in lost and _is_mine(job.claim)}
    for pid in {_pid(job.claim) for job in lost if lost[job] == HUNG} - busy:
        log.error("media_job_process_hung", pid=pid)
        end(pid)
    return sum(_put_back(job, reason) for job, reason in lost.items())


def waiting_jobs() -> int:
    """Return how many jobs wait for a worker. Raises DatabaseError."""
    return Job.objects.filter(status=Job.Status.QUEUED).count()


def hand_back_mine() -> int:
    """Put back what this worker's processes run, without counting the attempt, and return how many jobs that were."""
    handed = 0
    for job in Job.objects.filter(_mine(), status=Job.Status.PROCESSING):
        try:
            hand_back(job)
        except ClaimLost:
            continue
        handed += 1
    return handed


def call_for_waiting() -> None:
    """Call a worker if a job is due and no call waits."""
    if not waiting_calls() and due_jobs().exists():
        call_worker()


def left_lying() -> int | None:
    """Return the key of the job whose turn it is while this worker runs none; None where there is no such job."""
    if Job.objects.filter(_mine(), status=Job.Status.PROCESSING).exists():
        return None
    return due_jobs().values_list("pk", flat=True).first()


def _why_lost(claim: str, silent_seconds: float, dead: Collection[str]) -> str | None:
    if claim.partition(":")[0] in dead:
        return DIED
    if not _is_mine(claim):
        return SILENT if silent_seconds >= SILENT_SECONDS else None
    if not _lives(_pid(claim)):
        return DIED
    return HUNG if silent_seconds >= HUNG_SECONDS else None


def _put_back(job: Job, reason: str) -> bool:
    try:
        try_again(job, reason, pauses=PAUSES_AFTER_DEATH)
    except ClaimLost:
        return False  # it ended in this moment
    log.warning(
        "media_job_lost", job_id=job.public_id, reason=reason, attempts=job.attempts
    )
    return True


def _mine() -> Q:
    return Q(claim__startswith=f"{worker_id()}:")


def _is_mine(claim: str) -> bool:
    return claim.startswith(f"{worker_id()}:")


def _pid(claim: str) -> int:
    return int(claim.split(":")[1])


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
