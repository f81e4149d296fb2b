"""Prove that models load and answer."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from embeddings.services import catalog
from embeddings.services.errors import ServiceError


class Command(BaseCommand):
    help = "Load models and embed one text with each, to prove that they work on this machine."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "models", nargs="+", metavar="MODEL", help="`model` or `provider:model`"
        )

    def handle(self, *, models: list[str], **options: Any) -> None:
        for model in tqdm(models, unit="model", disable=None):
            try:
                target, seconds = catalog.warm_up(model=model)
            except ServiceError as error:
                raise CommandError(f"{model}: {error.message}") from error
            self.stdout.write(f"{target.label}  ready in {seconds:.2f} s")
