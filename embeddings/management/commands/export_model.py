"""Write a prepared model to one file, to be carried to another machine."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from embeddings.management.progress_bar import progress_bar
from embeddings.services import model_archives
from embeddings.services.errors import ServiceError


class Command(BaseCommand):
    help = "Write a prepared model to one file, to be carried to another machine."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", metavar="MODEL", help="a prepared local model")
        parser.add_argument("file", metavar="FILE", type=Path, help="a new file")

    def handle(self, *, model: str, file: Path, **options: Any) -> None:
        try:
            with progress_bar(model) as watch:
                archive = model_archives.export_model(model, file, watch=watch)
        except ServiceError as error:
            raise CommandError(error.message) from error
        self.stdout.write(
            f"{archive.prepared.name}  {archive.size_bytes / 1e6:.1f} MB  {file}\n"
            f"fingerprint {archive.fingerprint}"
        )
