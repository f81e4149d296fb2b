"""The embeddings app."""

from django.apps import AppConfig


class EmbeddingsConfig(AppConfig):
    name = "embeddings"

    def ready(self) -> None:
        from embeddings import checks  # noqa: F401  (registers the system checks)
        from embeddings.access.login_records import watch_logouts

        watch_logouts()
