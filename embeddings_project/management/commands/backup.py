"""Write an embedded installation to one file, also while it is served."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from embeddings_project.backups import SECRETS, BackupProblem, back_up


class Command(BaseCommand):
    help = "Write database and secrets of an embedded installation to one file, also while it is served."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path, help="a new file")

    def handle(self, *, file: Path, **options: Any) -> None:
        try:
            backup = back_up(file)
        except BackupProblem as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{file}  {backup.size_bytes / 1e6:.1f} MB: {', '.join(backup.names)}\n"
            "Whoever has it can read all documents and log in: keep it as safe as the server."
        )
        if absent := [name for name in SECRETS if name not in backup.names]:
            self.stdout.write(
                f"Not in it, since the environment sets them or they are not used: {', '.join(absent)}."
            )
