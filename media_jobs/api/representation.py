"""How documents and jobs look on the wire."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from embeddings.api.operations import timestamp
from media_jobs.metadata import shown
from media_jobs.models import Job, MediaItem
from media_jobs.services.jobs import Started

Row = TypeVar("Row", bound=Model)


def item_report(item: MediaItem) -> dict[str, Any]:
    """Return a document without its text."""
    return {
        "media_id": item.pk,
        "title": item.title,
        "language": item.language,
        "source_filename": item.source_filename,
        "metadata": shown(item.metadata),
        "checksum": item.checksum,
        "characters": item.characters,
        "has_embeddings": bool(item.embedding_count),
        "embeddings_stale": item.is_stale,
        "warnings": item.warnings,
        "created_at": timestamp(item.created_at),
        "updated_at": timestamp(item.updated_at),
    }


def page_of(
    rows: QuerySet[Row], report: Callable[[Row], Any], *, limit: int, offset: int
) -> dict[str, Any]:
    """Return one page of `rows`, and how many there are in all."""
    data = [report(row) for row in rows[offset : offset + limit]]
    return {
        "data": data,
        "pagination": {
            "limit": limit,
            "offset": offset,
            "count": len(data),
            "total": rows.count(),
        },
    }


def start_report(started: Started) -> dict[str, Any]:
    """Return the answer to a start."""
    job = started.job
    if started.is_new:
        status, message = "accepted", "Embedding generation started"
    elif job.status == Job.Status.COMPLETED:
        status, message = job.status, "The same embeddings are stored already"
    else:
        status, message = job.status, "The same job is under way already"
    return {
        "media_id": job.media_id,
        "status": status,
        "message": message,
        "job_id": job.public_id,
    }


def job_report(job: Job) -> dict[str, Any]:
    """Return one job."""
    return {
        "job_id": job.public_id,
        "media_id": job.media_id,
        "status": job.status,
        "embedding_model": job.embedding_model,
        "embedding_provider": job.embedding_provider,
        "dimensions": job.dimensions,
        "chunk_size": job.chunk_size,
        "chunk_overlap": job.chunk_overlap,
        "priority": job.priority,
        "chunks_total": job.chunks_total,
        "chunks_processed": job.chunks_processed,
        "progress": round(job.progress, 4),
        "attempts": job.attempts,
        "error": job.error or None,
        "waiting_until": timestamp(job.waiting_until),
        "waiting_reason": (job.waiting_reason or job.error or None)
        if job.waiting_until
        else None,
        "webhook": webhook_report(job),
        "created_at": timestamp(job.created_at),
        "started_at": timestamp(job.started_at),
        "finished_at": timestamp(job.finished_at),
    }


def webhook_report(job: Job) -> dict[str, Any] | None:
    """Return what became of a job's notice, or None for a job without one."""
    if not job.webhook_url:
        return None
    if job.finished_at is None:
        status = "waiting"
    elif job.webhook_due_at is not None:
        status = "pending"
    else:
        status = "failed" if job.webhook_error else "delivered"
    return {
        "status": status,
        "attempts": job.webhook_attempts,
        "next_attempt_at": timestamp(job.webhook_due_at),
        "error": job.webhook_error or None,
    }


def status_report(item: MediaItem, current_job: Job | None) -> dict[str, Any]:
    """Return what vectors a document has."""
    return {
        "media_id": item.pk,
        "has_embeddings": bool(item.embedding_count),
        "embeddings_stale": item.is_stale,
        "embedding_count": item.embedding_count,
        "embedding_model": item.embedding_model or None,
        "embedding_provider": item.embedding_provider or None,
        "vector_space": item.vector_space or None,
        "dimensions": item.dimensions,
        "last_generated": timestamp(item.embedded_at),
        "current_job": job_report(current_job) if current_job else None,
    }
