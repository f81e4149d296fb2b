"""The media app."""

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class MediaJobsConfig(AppConfig):
    name = "media_jobs"
    verbose_name = "Media"

    def ready(self) -> None:
        from embeddings.services import levels
        from media_jobs.services.levels import show_queue

        post_migrate.connect(prepare_vectors, sender=self)
        levels.shown.append(show_queue)


def prepare_vectors(*, using: str, **_: Any) -> None:
    """Let the database use pgvector, if it can now."""
    from media_jobs.vector_store import pgvector

    pgvector.prepare(using)
