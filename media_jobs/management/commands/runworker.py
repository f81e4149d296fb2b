"""Run jobs until stopped."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from media_jobs.cluster.supervisor import AlreadyRunning, Supervisor
from providers.state.database import waits


class Command(BaseCommand):
    help = "Run the jobs that embed documents, until Ctrl-C or SIGTERM. `serve` does so beside the server."

    def handle(self, **options: Any) -> None:
        waits.serve(None)  # jobs have time
        try:
            Supervisor().run()
        except AlreadyRunning as error:
            raise CommandError("A worker runs for this DATA_DIR already.") from error
