"""Prove that models load and answer."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from embeddings.management.progress_bar import progress_bar
from embeddings.services import model_actions
from embeddings.services.errors import ServiceError


class Command(BaseCommand):
    help = "Load models and embed one text with each, to prove that they work on this machine."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "models", nargs="+", metavar="MODEL", help="`model` or `provider:model`"
        )

    def handle(self, *, models: list[str], **options: Any) -> None:
        for model in models:
            try:
                with progress_bar(model) as watch:
                    target, seconds = model_actions.warm_up(model=model, watch=watch)
            except ServiceError as error:
                raise CommandError(f"{model}: {error.message}") from error
            self.stdout.write(f"{target.label}  ready in {seconds:.2f} s")
