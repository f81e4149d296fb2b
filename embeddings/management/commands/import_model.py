"""Take in a model that export_model wrote on another machine."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from embeddings.management.progress_bar import progress_bar
from embeddings.services import model_archives
from embeddings.services.errors import ServiceError


class Command(BaseCommand):
    help = "Take in a model that export_model wrote on another machine."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path, help="what it wrote")

    def handle(self, *, file: Path, **options: Any) -> None:
        try:
            with progress_bar(file.name) as watch:
                archive = model_archives.import_model(file, watch=watch)
        except ServiceError as error:
            raise CommandError(error.message) from error
        prepared = archive.prepared
        self.stdout.write(
            f"{prepared.name}  {prepared.runtime}  {prepared.path}\n"
            f"fingerprint {archive.fingerprint}"
        )
