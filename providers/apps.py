"""The providers app: what operators set, and what processes share."""

from datetime import datetime

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.utils import timezone


class ProvidersConfig(AppConfig):
    name = "providers"
    default_auto_field = "django.db.models.BigAutoField"
    started_at: datetime

    def ready(self) -> None:
        from providers.folding import teach_sqlite

        connection_created.connect(teach_sqlite)
        # Processes that are forked later have it from here: it is the server's start, not theirs.
        self.started_at = timezone.now()
