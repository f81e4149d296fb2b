"""How documents and jobs look on the wire."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from django.db.models import QuerySet

from embeddings.api.json_types import LeftOut, filled
from media_jobs.metadata import shown
from media_jobs.models import Job, MediaItem
from media_jobs.services.jobs import Started

Shown = TypeVar("Shown")

JobStatus = Literal["queued", "processing", "completed", "failed", "cancelled"]
NoticeStatus = Literal["waiting", "pending", "delivered", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A document without its text."""

    media_id: int
    title: str
    language: str
    source_filename: str
    metadata: dict[str, Any]
    checksum: str
    characters: int
    has_embeddings: bool
    embeddings_stale: bool
    warnings: list[str]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemWithText(Item):
    content: LeftOut[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDeleted:
    media_id: int
    status: Literal["deleted"] = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pagination:
    limit: int
    offset: int
    count: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPage:
    data: list[Item]
    pagination: Pagination


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted:
    media_id: int
    status: Literal["accepted", "queued", "processing", "completed"]
    message: str
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsStarted:
    jobs: list[JobStarted]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """What became of a job's notice."""

    status: NoticeStatus
    attempts: int
    next_attempt_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReport:
    job_id: str
    media_id: int
    status: JobStatus
    embedding_model: str
    embedding_provider: str
    dimensions: int | None
    chunk_size: int
    chunk_overlap: int
    priority: int
    chunks_total: int | None
    chunks_processed: int
    progress: float
    attempts: int
    error: str | None
    waiting_until: datetime | None
    waiting_reason: str | None
    webhook: Webhook | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    data: list[JobReport]
    pagination: Pagination


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsStatus:
    """What vectors a document has, and the job it waits for."""

    media_id: int
    has_embeddings: bool
    embeddings_stale: bool
    embedding_count: int
    embedding_model: str | None
    embedding_provider: str | None
    vector_space: str | None
    dimensions: int | None
    last_generated: datetime | None
    current_job: JobReport | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingsDeleted:
    media_id: int
    status: Literal["deleted"] = "deleted"
    deleted_count: int


def item_report(item: MediaItem) -> Item:
    """Return a document without its text."""
    return _item(Item, item)


def item_with_text(item: MediaItem, *, content: str | None) -> ItemWithText:
    """Return a document with its text, unless that is None."""
    return _item(ItemWithText, item, content=content)


def _item(shape: type[Shown], item: MediaItem, **more: Any) -> Shown:
    return filled(
        shape,
        item,
        media_id=item.pk,
        metadata=shown(item.metadata),
        has_embeddings=bool(item.embedding_count),
        embeddings_stale=item.is_stale,
        **more,
    )


def page_of(
    shape: Callable[..., Shown],
    report: Callable[[Any], Any],
    rows: QuerySet[Any],
    *,
    limit: int,
    offset: int,
) -> Shown:
    """Return one page of `rows`, each as `report` has it, and how many there are in all."""
    data = [report(row) for row in rows[offset : offset + limit]]
    pagination = Pagination(
        limit=limit, offset=offset, count=len(data), total=rows.count()
    )
    return shape(data=data, pagination=pagination)


def start_report(started: Started) -> JobStarted:
    """Return the answer to a start."""
    job = started.job
    status = "accepted" if started.is_new else job.status
    return filled(
        JobStarted, job, job_id=job.public_id, status=status, message=started.message
    )


def job_report(job: Job) -> JobReport:
    """Return one job."""
    waiting = job.waiting_until is not None
    return filled(
        JobReport,
        job,
        job_id=job.public_id,
        progress=round(job.progress, 4),
        error=job.error or None,
        waiting_reason=(job.waiting_reason or job.error or None) if waiting else None,
        webhook=_webhook(job),
    )


def _webhook(job: Job) -> Webhook | None:
    if not job.webhook_url:
        return None
    status: NoticeStatus
    if job.finished_at is None:
        status = "waiting"
    elif job.webhook_due_at is not None:
        status = "pending"
    else:
        status = "failed" if job.webhook_error else "delivered"
    return Webhook(
        status=status,
        attempts=job.webhook_attempts,
        next_attempt_at=job.webhook_due_at,
        error=job.webhook_error or None,
    )


def status_report(item: MediaItem, current_job: Job | None) -> EmbeddingsStatus:
    """Return what vectors a document has."""
    return filled(
        EmbeddingsStatus,
        item,
        media_id=item.pk,
        has_embeddings=bool(item.embedding_count),
        embeddings_stale=item.is_stale,
        embedding_model=item.embedding_model or None,
        embedding_provider=item.embedding_provider or None,
        vector_space=item.vector_space or None,
        last_generated=item.embedded_at,
        current_job=job_report(current_job) if current_job else None,
    )
