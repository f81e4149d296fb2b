"""The media app."""

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class MediaJobsConfig(AppConfig):
    name = "media_jobs"
    verbose_name = "Media"

    def ready(self) -> None:
        post_migrate.connect(prepare_vectors, sender=self)


def prepare_vectors(*, using: str, **_: Any) -> None:
    """Let the database use pgvector, if it can now."""
    from media_jobs.vector_store import pgvector

    pgvector.prepare(using)
