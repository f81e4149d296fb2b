"""Who holds a job. Every change is one conditional UPDATE, so that of several runs of one job only one can write.

A claim is `worker:pid:random`: the worker is a name made at random at each start, so that a copied DATA_DIR is another
worker; the pid is that of the process that runs the job.
"""

import functools
import math
import os
import random
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from media_jobs.conf import conf
from media_jobs.models import Job
from media_jobs.services.worker_calls import call_worker

MAX_ATTEMPTS = 5
# Seconds before the second, third, … attempt.
PAUSES = (5, 30, 120, 600)
# The same where the process died: once is an accident.
PAUSES_AFTER_DEATH = (0, 5, 30, 120)
CANDIDATES = 5
# A job that waits for its provider asks again after at least, and at most, so many seconds; between them, after a
# quarter of the time it has waited. Those that wait together spread over a tenth more.
MIN_WAIT, MAX_WAIT = 10.0, 900.0
WAIT_GROWTH, WAIT_SPREAD = 0.25, 0.1
# What is kept of ended attempts. These outcomes spend none.
MAX_HISTORY, MAX_REASON = 50, 500
UNCOUNTED = ("waits", "interrupted")
# No pause is nearly as long. A job that is due later than this was put off before the clock was set back.
FAR_FUTURE = timedelta(seconds=2 * MAX_WAIT)

log = structlog.get_logger(__name__)


class ClaimLost(Exception):
    """The job was cancelled, or given to another run: nothing more may be written."""


@functools.cache
def worker_id() -> str:
    """Return this worker's name. Its supervisor makes it before it forks, so that all its processes have the same."""
    return secrets.token_hex(6)


def claim_next() -> Job | None:
    """Take the most urgent job that is due; None if there is none. Its attempt counts from here on."""
    while candidates := list(due_jobs().values_list("pk", flat=True)[:CANDIDATES]):
        for pk in candidates:
            now = timezone.now()
            claim = f"{worker_id()}:{os.getpid()}:{secrets.token_hex(4)}"
            won = Job.objects.filter(pk=pk, status=Job.Status.QUEUED).update(
                status=Job.Status.PROCESSING,
                claim=claim,
                attempts=F("attempts") + 1,
                heartbeat_at=now,
                claimed_at=now,
                waiting_reason="",
                started_at=Coalesce("started_at", now),
            )
            if won:
                return Job.objects.get(pk=pk)
    return None


def due_jobs() -> QuerySet[Job]:
    """Return the jobs that may run now, in their turn."""
    now = timezone.now()
    due = Q(not_before__lte=now) | Q(not_before__gt=now + FAR_FUTURE)
    return Job.objects.filter(due, status=Job.Status.QUEUED).order_by(
        "-priority", "created_at", "pk"
    )


def write(job: Job, **changes: Any) -> None:
    """Change a job that this run holds, which also shows that it lives. Raises ClaimLost."""
    held = Job.objects.filter(pk=job.pk, claim=job.claim, status=Job.Status.PROCESSING)
    if not held.update(**{"heartbeat_at": timezone.now(), **changes}):
        raise ClaimLost


def beat(job: Job) -> bool:
    """Show that this run lives; return whether it still holds the job."""
    try:
        write(job)
    except ClaimLost:
        return False
    return True


def complete(job: Job, *, chunks: int) -> None:
    """End a job well."""
    _end(job, Job.Status.COMPLETED, chunks_total=chunks, chunks_processed=chunks)


def fail(job: Job, reason: str) -> None:
    """End a job for good. `reason` is a public sentence."""
    log.warning("media_job_failed", job_id=job.public_id, reason=reason)
    _end(job, Job.Status.FAILED, error=reason)


def hand_back(job: Job) -> None:
    """Put a job back into the queue: others are due, or the worker stops. That is no failed attempt."""
    write(
        job,
        status=Job.Status.QUEUED,
        claim="",
        attempts=job.attempts - 1,
        history=_with_attempt(job, "interrupted"),
        not_before=timezone.now(),
    )
    call_worker()


def try_again(
    job: Job,
    reason: str,
    *,
    pause_seconds: float | None = None,
    pauses: Sequence[float] = PAUSES,
) -> None:
    """Put a job back into the queue after a failure that may pass; fail it once its attempts are spent."""
    if job.attempts >= MAX_ATTEMPTS:
        fail(job, f"{reason.rstrip('.')} (given up after {job.attempts} attempts).")
        return
    usual = pauses[min(job.attempts, len(pauses)) - 1]
    pause = min(max(usual, pause_seconds or 0), MAX_WAIT)
    write(
        job,
        status=Job.Status.QUEUED,
        claim="",
        error=reason,
        history=_with_attempt(job, "failed", reason),
        not_before=timezone.now() + timedelta(seconds=pause),
    )
    if not pause:
        call_worker()
    log.info("media_job_retried", job_id=job.public_id, reason=reason, pause=pause)


def wait(job: Job, reason: str, *, seconds: float) -> None:
    """Put a job back until what it needs may be there again, in about `seconds`. That is no failed attempt.

    A job that has waited for MEDIA_JOB_WAIT_DAYS, without a step forward, fails.
    """
    left = conf().wait_days * 86400 - job.waited_seconds
    if left <= 0:
        fail(job, f"{reason.rstrip('.')} (given up after {conf().wait_days:g} days).")
        return
    pause = max(MIN_WAIT, seconds, job.waited_seconds * WAIT_GROWTH)
    pause = min(pause, MAX_WAIT, left)
    pause += random.uniform(0, pause * WAIT_SPREAD)  # noqa: S311 -- no secret
    write(
        job,
        status=Job.Status.QUEUED,
        claim="",
        attempts=job.attempts - 1,
        waiting_reason=reason,
        history=_with_attempt(job, "waits", reason),
        waited_seconds=job.waited_seconds + math.ceil(pause),
        not_before=timezone.now() + timedelta(seconds=pause),
    )
    log.info("media_job_waits", job_id=job.public_id, reason=reason, pause=pause)


def put_off_like(job: Job, reason: str, *, seconds: float) -> int:
    """Have the jobs of the same model that are due wait, too, so that not each has to find out; return their number."""
    pause = max(MIN_WAIT, seconds)
    alike = due_jobs().filter(
        embedding_provider=job.embedding_provider, embedding_model=job.embedding_model
    )
    return alike.order_by().update(
        waiting_reason=reason,
        waited_seconds=F("waited_seconds") + math.ceil(pause),
        not_before=timezone.now() + timedelta(seconds=pause),
    )


def notice_at(job: Job) -> datetime | None:
    """Return when the webhook of a job that ends now is due."""
    return timezone.now() if job.webhook_url else None


def _end(job: Job, status: Job.Status, **changes: Any) -> None:
    now = timezone.now()
    write(
        job,
        status=status,
        claim="",
        finished_at=now,
        webhook_due_at=notice_at(job),
        history=_with_attempt(job, status, changes.get("error", ""), at=now),
        **{"error": "", **changes},
    )


def _with_attempt(
    job: Job, outcome: str, reason: str = "", *, at: datetime | None = None
) -> list[dict[str, Any]]:
    """Return the job's history with the attempt that ends now. Like ones that spent no attempt are one entry."""
    ended = {
        "began": job.claimed_at.isoformat() if job.claimed_at else None,
        "ended": (at or timezone.now()).isoformat(),
        "outcome": str(outcome),
        "reason": reason[:MAX_REASON],
        "times": 1,
    }
    before = list(job.history)
    if before and outcome in UNCOUNTED:
        last = before[-1]
        if (last["outcome"], last["reason"]) == (ended["outcome"], ended["reason"]):
            again = {"began": last["began"], "times": last["times"] + 1}
            return [*before[:-1], {**ended, **again}]
    return [*before, ended][-MAX_HISTORY:]
