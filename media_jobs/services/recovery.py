"""What makes sure that no job is forgotten: whoever held it died, its call was lost, or nobody answers the calls."""

import os
from datetime import timedelta

import structlog
from django.db.models import Q
from django.utils import timezone

from media_jobs.conf import conf
from media_jobs.models import Job
from media_jobs.queue import call_worker, waiting_calls
from media_jobs.services.claims import (
    PAUSES_AFTER_DEATH,
    ClaimLost,
    due_jobs,
    hand_back,
    try_again,
)
from media_jobs.services.webhooks import due_notices

# A worker elsewhere that has not been heard of for so long is taken for dead.
SILENT_SECONDS = 600
DIED = "The process that ran this job died."

log = structlog.get_logger(__name__)


def take_up_lost(*, none_alive: bool = False) -> int:
    """Put jobs back whose runs died, and return their number. `none_alive`: no process of this worker lives."""
    mine = Q(claim__startswith=f"{conf().worker_name}:")
    silent = Q(heartbeat_at__lt=timezone.now() - timedelta(seconds=SILENT_SECONDS))
    lost = 0
    for job in Job.objects.filter(mine | silent, status=Job.Status.PROCESSING):
        is_mine = job.claim.startswith(f"{conf().worker_name}:")
        if is_mine and not none_alive and _lives(job.claim):
            continue
        try:
            try_again(job, DIED, pauses=PAUSES_AFTER_DEATH)
        except ClaimLost:
            continue  # it ended in this moment
        log.warning("media_job_lost", job_id=job.public_id, attempts=job.attempts)
        lost += 1
    return lost


def hand_back_mine() -> int:
    """Put back what this worker's processes run, without counting the attempt, and return how many jobs that were."""
    handed = 0
    mine = Job.objects.filter(
        claim__startswith=f"{conf().worker_name}:", status=Job.Status.PROCESSING
    )
    for job in mine:
        try:
            hand_back(job)
        except ClaimLost:
            continue
        handed += 1
    return handed


def call_for_waiting() -> None:
    """Call a worker if something is due and no call waits."""
    if not waiting_calls() and (due_jobs().exists() or due_notices().exists()):
        call_worker()


def waits_in_vain(*, seconds: float) -> bool:
    """Tell whether jobs have been due for so long while this worker runs none."""
    before = timezone.now() - timedelta(seconds=seconds)
    waiting = due_jobs().filter(not_before__lt=before).exists()
    mine = Job.objects.filter(
        claim__startswith=f"{conf().worker_name}:", status=Job.Status.PROCESSING
    )
    return waiting and not mine.exists()


def _lives(claim: str) -> bool:
    try:
        os.kill(int(claim.split(":")[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
