"""Search the documents."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from embeddings.services.callers import SYSTEM
from embeddings.services.errors import ServiceError
from media_jobs.services.search import Found, SearchQuery, search
from providers.exceptions import ProviderError

SNIPPET_CHARACTERS = 240


class Command(BaseCommand):
    help = "Print the chunks of all documents that are nearest to a query."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("query")
        parser.add_argument("--top-k", type=int, default=5)
        parser.add_argument("--model", help="`model` or `provider:model`")
        parser.add_argument("--hybrid", action="store_true", help="By words, too.")

    def handle(self, *, query: str, top_k: int, **options: Any) -> None:
        wanted = SearchQuery(
            text=query, top_k=top_k, model=options["model"], hybrid=options["hybrid"]
        )
        try:
            result = search(SYSTEM, wanted)
        except (ServiceError, ProviderError) as error:
            raise CommandError(error.message) from error
        if not result.found:
            self.stdout.write("Nothing found.")
        for found in result.found:
            self.stdout.write(_line(found))


def _line(found: Found) -> str:
    hit = found.hit
    text = " ".join(hit.text.split())
    if len(text) > SNIPPET_CHARACTERS:
        text = text[:SNIPPET_CHARACTERS] + " …"
    place = f"{hit.start}-{hit.end}"
    return f"{hit.score:.3f}  {found.item.title}  [{hit.media_id}, {place}]\n       {text}\n"
