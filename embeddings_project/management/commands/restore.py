"""Put back what `backup` wrote."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from embeddings_project.backups import BackupProblem, restore


class Command(BaseCommand):
    requires_system_checks = ()  # of an installation that may be broken
    help = "Put database and secrets back from a file that `backup` wrote, with the server stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path, help="from `backup`")
        parser.add_argument(
            "--force",
            action="store_true",
            help="replace what is there; it is lost",
        )

    def handle(self, *, file: Path, force: bool, **options: Any) -> None:
        try:
            backup = restore(file, force=force)
        except BackupProblem as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{settings.DATA_DIR} is as release {backup.release} left it at {backup.made_at}"
            f" ({', '.join(backup.names)}). The next start brings the database up to date."
        )
