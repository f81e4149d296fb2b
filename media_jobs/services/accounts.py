"""The end of an account: what its user made goes with it, little by little, so that nobody waits for a large one."""

import time
from collections.abc import Collection
from dataclasses import dataclass

import structlog
from django.contrib.auth.models import User
from django.db import transaction

from media_jobs.models import Job, MediaItem, StoredChunk
from media_jobs.services.jobs import cancel
from media_jobs.vector_store.store import vector_store

# What one transaction deletes at most, beyond the last document: a third of a second of SQLite's one writer.
BATCH_CHUNKS = 5000
BATCH_ROWS = 500

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """How much users have stored."""

    documents: int
    chunks: int
    jobs: int


def holdings(users: Collection[User]) -> Holdings:
    """Count what goes when `users` are deleted."""
    return Holdings(
        documents=MediaItem.objects.filter(owner__in=users).count(),
        chunks=StoredChunk.objects.filter(media__owner__in=users).count(),
        jobs=Job.objects.filter(owner__in=users).count(),
    )


def delete_user(user: User, *, seconds: float | None = None) -> bool:
    """Delete a user with its jobs, documents, chunks, vectors and keys; its usage stays.

    The user is switched off and its jobs are cancelled first; then each batch is a transaction of its own. Returns
    False if that took longer than `seconds`: the user is off, and the next call goes on.
    """
    end = None if seconds is None else time.monotonic() + seconds
    User.objects.filter(pk=user.pk).update(is_active=False)
    cancel(Job.objects.filter(owner=user))
    while batch := _next_documents(user):
        if end is not None and time.monotonic() >= end:
            return False
        with transaction.atomic():
            vector_store().delete(batch)
            MediaItem.objects.filter(pk__in=batch).delete()
    log.info("user_deleted", user_id=user.pk)
    user.delete()
    return True


def _next_documents(user: User) -> list[int]:
    """Return the next of the user's documents, until they have the chunks of a batch together."""
    rows = MediaItem.objects.filter(owner=user).order_by("pk")
    batch, chunks = [], 0
    for pk, count in rows.values_list("pk", "embedding_count")[:BATCH_ROWS]:
        batch.append(pk)
        chunks += count
        if chunks >= BATCH_CHUNKS:
            break
    return batch
