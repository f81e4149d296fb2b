"""Documents, and the jobs that embed them."""

import json
from datetime import datetime
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from media_jobs.metadata import number
from media_jobs.vector_store.rows import ItemVectors, StoredChunk, VectorSpace
from providers.registry import registry
from providers.unusable import Unusable

__all__ = [
    "LIVE",
    "ExternalId",
    "ItemVectors",
    "Job",
    "MediaItem",
    "StoredChunk",
    "VectorSpace",
]


class MetadataField(models.JSONField):
    """PostgreSQL keeps a float without a fraction as a whole number: beyond 64 bits it was a float."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        if connection.vendor == "postgresql" and isinstance(value, str):
            return json.loads(value, parse_int=number)
        return super().from_db_value(value, expression, connection)

    def deconstruct(self) -> Any:
        """Migrations see nothing of this: the column is the same."""
        name, _, arguments, options = super().deconstruct()
        return name, "django.db.models.JSONField", arguments, options


class MediaItem(models.Model):
    """One document of one owner (none: the single user), with its text and what of it is embedded.

    `embedded_checksum` is the checksum of the text that the stored vectors belong to, `embedded_revision` that of the
    model that made them: where either is another now, the vectors are stale.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="media",
    )
    title = models.CharField(max_length=500)
    language = models.CharField(max_length=35, blank=True, help_text="As given.")
    source_filename = models.CharField(max_length=255, blank=True)
    metadata = MetadataField(default=dict, blank=True)
    warnings = models.JSONField(
        default=list, blank=True, help_text="What of the file is not in the text."
    )
    checksum = models.CharField(max_length=64, help_text="sha256 of the text in UTF-8.")
    characters = models.PositiveBigIntegerField(default=0)
    text_bytes = models.PositiveBigIntegerField(
        default=0, help_text="Of the text in UTF-8."
    )
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    updated_at = models.DateTimeField(auto_now=True)
    embedding_provider = models.CharField(max_length=64, blank=True)
    embedding_model = models.CharField(max_length=200, blank=True)
    embedded_revision = models.CharField(  # noqa: DJ001
        max_length=300,
        null=True,
        blank=True,
        help_text="The model's revision; null where it was not kept.",
    )
    vector_space = models.CharField(max_length=300, blank=True)
    dimensions = models.PositiveIntegerField(null=True, blank=True)
    embedding_count = models.PositiveIntegerField(default=0)
    embedded_checksum = models.CharField(max_length=64, blank=True)
    embedded_at = models.DateTimeField(null=True, blank=True)
    # Last, since SQLite reads past a long text to the columns behind it.
    content = models.TextField()

    class Meta:
        ordering: ClassVar = ["-created_at", "-pk"]
        verbose_name = "media item"
        indexes: ClassVar = [
            models.Index(fields=["owner", "text_bytes"], name="media_jobs_sizes")
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_stale(self) -> bool:
        """Whether the text, or its model, changed after it was embedded."""
        if not self.embedding_count:
            return False
        return self.embedded_checksum != self.checksum or self._is_outdated()

    def _is_outdated(self) -> bool:
        """Whether the model makes other vectors now; not of one that is gone or has no revision to compare."""
        provider = registry().get(self.embedding_provider)
        if provider is None or isinstance(provider, Unusable):
            return False
        if self.embedded_revision is None:
            return False
        model = registry().resolve(provider, self.embedding_model)
        if model is None:
            return False
        if model.vector_space != self.vector_space:
            return True
        return model.revision not in ("", self.embedded_revision)


class ExternalId(models.Model):
    """What the corpus calls a document that was loaded from one: each name once for each owner."""

    media = models.OneToOneField(
        MediaItem,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="external",
    )
    owner = models.PositiveBigIntegerField(help_text="The user's id, else 0.")
    name = models.CharField(max_length=500)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["owner", "name"], name="one_document_a_name"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Job(models.Model):
    """One run of embedding one media item. It outlives the item.

    `claim` names the run that holds the job; every write of that run is conditional on it and on the status, so that to
    cancel a job is to change its status. `attempts` is counted when a run begins, so that a job that kills its process
    cannot come back for ever; a run that finds its provider away gives it back (`waiting_reason`).
    """

    class Status(models.TextChoices):
        QUEUED = "queued"
        PROCESSING = "processing"
        COMPLETED = "completed"
        FAILED = "failed"
        CANCELLED = "cancelled"

    public_id = models.CharField(max_length=40, unique=True)
    media = models.ForeignKey(
        MediaItem,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="jobs",
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="media_jobs",
    )
    caller = models.CharField(max_length=64, help_text="Who asked: the caller's id.")
    status = models.CharField(
        max_length=10, choices=Status.choices, default=Status.QUEUED
    )
    priority = models.SmallIntegerField(default=0, help_text="Higher runs earlier.")
    embedding_provider = models.CharField(max_length=64)
    embedding_model = models.CharField(max_length=200)
    dimensions = models.PositiveIntegerField(null=True, blank=True)
    chunk_size = models.PositiveIntegerField()
    chunk_overlap = models.PositiveIntegerField()
    fingerprint = models.CharField(
        max_length=64,
        help_text="Text, model and cutting: equal jobs give equal vectors.",
    )
    chunks_total = models.PositiveIntegerField(null=True, blank=True)
    chunks_processed = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    claim = models.CharField(max_length=32, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    claimed_at = models.DateTimeField(
        null=True, blank=True, help_text="When its last attempt began."
    )
    history = models.JSONField(
        default=list, blank=True, help_text="How its last attempts ended, oldest first."
    )
    not_before = models.DateTimeField(
        default=timezone.now, help_text="When it may run (again)."
    )
    waiting_reason = models.TextField(
        blank=True,
        default="",
        help_text="What a queued job waits for, until it may run again.",
    )
    waited_seconds = models.PositiveIntegerField(
        default=0, help_text="Since its last step forward."
    )
    webhook_url = models.CharField(max_length=2000, blank=True)
    webhook_host = models.CharField(max_length=255, blank=True, default="")
    webhook_attempts = models.PositiveSmallIntegerField(default=0)
    webhook_due_at = models.DateTimeField(null=True, blank=True)
    webhook_error = models.CharField(
        max_length=300, blank=True, default="", help_text="Why the last try failed."
    )
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-created_at", "-pk"]
        indexes: ClassVar = [
            models.Index(
                fields=["status", "-priority", "created_at"], name="media_jobs_by_turn"
            ),
            models.Index(fields=["media", "status"], name="media_jobs_by_item"),
            models.Index(fields=["-created_at"], name="media_jobs_newest"),
            models.Index(
                fields=["webhook_due_at"],
                name="media_jobs_notices",
                condition=models.Q(webhook_due_at__isnull=False),
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["media", "fingerprint"],
                condition=models.Q(status__in=["queued", "processing"]),
                name="one_live_job_of_a_kind",
            )
        ]

    def __str__(self) -> str:
        return self.public_id

    @property
    def waiting_until(self) -> datetime | None:
        """When a job that was put back after a failure, or waits for its provider, may run again; else None."""
        put_back = self.status == self.Status.QUEUED and (
            self.waiting_reason or self.error
        )
        return self.not_before if put_back else None

    @property
    def progress(self) -> float:
        """Return the share of chunks that are done, 0 to 1."""
        if self.status == self.Status.COMPLETED:
            return 1.0
        if not self.chunks_total:
            return 0.0
        return min(1.0, self.chunks_processed / self.chunks_total)


# Jobs that wait or run.
LIVE = (Job.Status.QUEUED, Job.Status.PROCESSING)
