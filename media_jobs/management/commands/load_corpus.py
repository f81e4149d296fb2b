"""Load a corpus that `embed_corpus` embedded."""

from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand
from tqdm import tqdm

from embeddings.services.errors import ServiceError
from media_jobs.corpus.command import explained, require
from media_jobs.corpus.errors import CorpusError
from media_jobs.management.owner import add_owner, caller_of

if TYPE_CHECKING:
    from media_jobs.corpus.loading import Loader


class Command(BaseCommand):
    help = "Store the documents of an embedded corpus with their vectors; again: what is new or changed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "output", type=Path, help="the folder that embed_corpus wrote"
        )
        add_owner(parser)

    def handle(self, *, output: Path, owner: str | None, **options: Any) -> None:
        require("pyarrow", extra="corpus")
        from media_jobs.corpus.loading import Loader

        with explained():
            loader = Loader(output, caller_of(owner))
            try:
                self._load(loader)
            except (CorpusError, ServiceError):
                loader.build_index()  # over what is there
                raise
            loader.build_index()

    def _load(self, loader: "Loader") -> None:
        new = changed = same = chunks = 0
        with tqdm(
            total=loader.manifest.documents, unit="document", disable=None
        ) as bar:
            for loaded in loader.load():
                new, changed = new + loaded.new, changed + loaded.changed
                same, chunks = same + loaded.same, chunks + loaded.chunks
                bar.update(loaded.new + loaded.changed + loaded.same)
        self.stdout.write(
            f"{new:,} documents new, {changed:,} changed, {same:,} the same; {chunks:,} chunks stored."
        )
