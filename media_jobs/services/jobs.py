"""Jobs: made, found, cancelled. Running them is for services/runs.py."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from embeddings.services.callers import Caller
from embeddings.services.errors import Conflict, NotAllowed, NotFound
from embeddings.services.types import Target
from media_jobs.chunking import chunker
from media_jobs.conf import conf
from media_jobs.models import LIVE, Job, MediaItem
from media_jobs.services.items import (
    CHANGE,
    DELETE,
    check_permission,
    find_item,
    visible_items,
)
from media_jobs.services.quotas import check_queue
from media_jobs.services.targets import identity_of, pinned_target
from media_jobs.services.webhooks import check_address, host_of
from media_jobs.services.worker_calls import call_worker
from media_jobs.vector_store.store import vector_store

VIEW_JOB, CHANGE_JOB = "media_jobs.view_job", "media_jobs.change_job"
# Above this, a job is for staff alone: it passes those of everybody else.
MAX_COMMON_PRIORITY, MAX_PRIORITY = 50, 100
MIN_CHUNK, MAX_CHUNK = 50, 20_000  # characters
MAX_BATCH = 1000  # documents

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """How a document is to be embedded. `model` None: the server's default."""

    chunk_size: int
    chunk_overlap: int
    model: str | None = None
    provider: str | None = None
    dimensions: int | None = None
    force: bool = False
    priority: int = 0
    webhook_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A job that was made, or the one that makes another needless."""

    job: Job
    is_new: bool

    @property
    def message(self) -> str:
        if self.is_new:
            return "Embedding generation started"
        if self.job.status == Job.Status.COMPLETED:
            return "The same embeddings are stored already"
        return "The same job is under way already"


def usual_overlap(chunk_size: int) -> int:
    """Return how many characters chunks of that size share where nobody says."""
    return min(conf().chunk_overlap, chunk_size // 5)


def start_job(caller: Caller, media_id: int, wanted: JobOptions) -> Started:
    """Embed one document. Raises ServiceError, QueueFull among them."""
    target = _checked_target(caller, wanted)
    item = find_item(caller, media_id, permission=CHANGE)
    with transaction.atomic():
        started = _start(caller, item, target, wanted)
        check_queue(caller, new_jobs=int(started.is_new))
    _log_new([started])
    return started


def start_jobs(
    caller: Caller, media_ids: Sequence[int], wanted: JobOptions
) -> list[Started]:
    """Embed several documents: all of them, or on any error none."""
    target = _checked_target(caller, wanted)
    found = {item.pk: item for item in visible_items(caller).filter(pk__in=media_ids)}
    missing = [media_id for media_id in media_ids if media_id not in found]
    if missing:
        raise NotFound(f"There is no media item {missing[0]}.", param="media_ids")
    for item in found.values():
        check_permission(caller, item.owner_id, CHANGE)
    with transaction.atomic():
        started = [
            _start(caller, found[media_id], target, wanted)
            for media_id in dict.fromkeys(media_ids)
        ]
        check_queue(caller, new_jobs=sum(one.is_new for one in started))
    _log_new(started)
    return started


def visible_jobs(caller: Caller) -> QuerySet[Job]:
    """Return the jobs that `caller` may know of."""
    if caller.may(VIEW_JOB, CHANGE_JOB):
        return Job.objects.all()
    if caller.user_id is None:
        return Job.objects.none()
    return Job.objects.filter(owner_id=caller.user_id)


def find_job(caller: Caller, public_id: str) -> Job:
    """Return one job. Raises NotFound."""
    job = visible_jobs(caller).filter(public_id=public_id).first()
    if job is None:
        raise NotFound("There is no such job.")
    return job


def cancel_job(caller: Caller, public_id: str) -> Job:
    """Cancel a job that waits or runs. Raises NotFound, NotAllowed, or Conflict for one that has ended otherwise."""
    job = find_job(caller, public_id)
    check_permission(caller, job.owner_id, CHANGE_JOB)
    cancel(Job.objects.filter(pk=job.pk))
    job.refresh_from_db()
    if job.status != Job.Status.CANCELLED:
        raise Conflict(f"The job is {job.status} already.")
    return job


def retry_job(caller: Caller, public_id: str) -> Started:
    """Start a job again that failed or was cancelled: as another one with the same options, but without its notice,
    which was sent. Raises NotFound, NotAllowed, Conflict for a job that has not ended or has ended well.
    """
    job = find_job(caller, public_id)
    check_permission(caller, job.owner_id, CHANGE_JOB)
    if job.status not in (Job.Status.FAILED, Job.Status.CANCELLED):
        raise Conflict(
            f"The job is {job.status}; only failed and cancelled jobs can be started again."
        )
    wanted = JobOptions(
        chunk_size=job.chunk_size,
        chunk_overlap=job.chunk_overlap,
        model=job.embedding_model,
        provider=job.embedding_provider,
        dimensions=job.dimensions,
        priority=min(job.priority, MAX_COMMON_PRIORITY),
    )
    return start_job(caller, job.media_id, wanted)


def cancel(jobs: QuerySet[Job]) -> int:
    """Cancel those of `jobs` that wait or run, and return their number. A run notices at its next write."""
    now = timezone.now()
    live = jobs.filter(status__in=LIVE)
    notified = live.exclude(webhook_url="").update(
        status=Job.Status.CANCELLED, finished_at=now, webhook_due_at=now
    )
    return notified + live.update(status=Job.Status.CANCELLED, finished_at=now)


def delete_embeddings(caller: Caller, media_id: int) -> int:
    """Remove a document's vectors, cancel its jobs, and return how many chunks that were."""
    item = find_item(caller, media_id, permission=CHANGE)
    with transaction.atomic():
        cancel(Job.objects.filter(media_id=item.pk))
        MediaItem.objects.filter(pk=item.pk).update(
            embedding_provider="",
            embedding_model="",
            embedded_revision=None,
            vector_space="",
            dimensions=None,
            embedding_count=0,
            embedded_checksum="",
            embedded_at=None,
        )
        return vector_store().delete([item.pk])


def delete_item(caller: Caller, media_id: int) -> None:
    """Delete a document and its vectors, and cancel its jobs."""
    find_item(caller, media_id, permission=DELETE)
    with transaction.atomic():
        cancel(Job.objects.filter(media_id=media_id))
        vector_store().delete([media_id])
        MediaItem.objects.filter(pk=media_id).delete()
    log.info("media_deleted", media_id=media_id)


def live_job(media_id: int) -> Job | None:
    """Return the job that a document waits for: the one that runs, else the next."""
    jobs = Job.objects.filter(media_id=media_id, status__in=LIVE)
    return jobs.order_by("status", "-priority", "created_at").first()


def _checked_target(caller: Caller, wanted: JobOptions) -> Target:
    if wanted.priority > MAX_COMMON_PRIORITY and not caller.is_admin:
        raise NotAllowed(
            f"priority above {MAX_COMMON_PRIORITY} is for staff; send {MAX_COMMON_PRIORITY} or less.",
            param="priority",
        )
    if wanted.webhook_url:
        check_address(wanted.webhook_url)
    return pinned_target(caller, model=wanted.model, provider=wanted.provider)


def _start(
    caller: Caller, item: MediaItem, target: Target, wanted: JobOptions
) -> Started:
    fingerprint = _fingerprint(item, target, wanted)
    alike = Job.objects.filter(media_id=item.pk, fingerprint=fingerprint)
    if wanted.force:
        cancel(alike)
    elif (job := _live_or_done(item, alike)) is not None:
        return Started(job=job, is_new=False)
    try:
        with transaction.atomic():
            job = _create(caller, item, target, wanted, fingerprint)
    except IntegrityError:  # somebody asked for the same in the same moment
        return Started(job=alike.filter(status__in=LIVE).latest("pk"), is_new=False)
    transaction.on_commit(call_worker)
    return Started(job=job, is_new=True)


def _log_new(started: Sequence[Started]) -> None:
    for one in started:
        if one.is_new:
            job = one.job
            log.info("media_job_created", job_id=job.public_id, media_id=job.media_id)


def _create(
    caller: Caller,
    item: MediaItem,
    target: Target,
    wanted: JobOptions,
    fingerprint: str,
) -> Job:
    return Job.objects.create(
        public_id=f"mej_{secrets.token_hex(12)}",  # nobody can guess it
        media=item,
        owner_id=item.owner_id,
        caller=caller.id,
        fingerprint=fingerprint,
        priority=wanted.priority,
        embedding_provider=target.provider.name,
        embedding_model=target.model.name,
        dimensions=wanted.dimensions,
        chunk_size=wanted.chunk_size,
        chunk_overlap=wanted.chunk_overlap,
        webhook_url=wanted.webhook_url,
        webhook_host=host_of(wanted.webhook_url),
        not_before=timezone.now() - timedelta(milliseconds=1),
    )


def _live_or_done(item: MediaItem, alike: QuerySet[Job]) -> Job | None:
    """Return the like job that runs or waits; or the one that made the vectors that are stored, if they still fit."""
    live = alike.filter(status__in=LIVE).first()
    if live is not None:
        return live
    if not item.embedding_count or item.is_stale:
        return None
    last = (
        Job.objects.filter(media_id=item.pk, status=Job.Status.COMPLETED)
        .order_by("-finished_at", "-pk")
        .first()
    )
    return last if last and alike.filter(pk=last.pk).exists() else None


def _fingerprint(item: MediaItem, target: Target, wanted: JobOptions) -> str:
    identity = (
        item.checksum,
        identity_of(target, dimensions=wanted.dimensions),
        target.model.max_tokens,
        wanted.dimensions,
        wanted.chunk_size,
        wanted.chunk_overlap,
        chunker(),
    )
    return hashlib.sha256(repr(identity).encode()).hexdigest()
