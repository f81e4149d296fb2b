"""Build pgvector's indexes."""

from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from tqdm import tqdm

from media_jobs.conf import conf
from media_jobs.vector_store.pgvector import PgVectorStore
from media_jobs.vector_store.pgvector_index import (
    MAX_DIMENSIONS,
    BuildOptions,
    BuildProgress,
    BuildRefused,
    build_index,
    chunk_count,
    convert,
    has_current_index,
    stored_type,
)
from media_jobs.vector_store.rows import VectorSpace
from media_jobs.vector_store.store import choose


class Command(BaseCommand):
    help = "Build pgvector's indexes where they are missing or of an older kind, while the server reads and writes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS)
        parser.add_argument(
            "--memory-mb",
            type=above_zero,
            help="maintenance_work_mem. By default what the index takes, up to 2048.",
        )
        parser.add_argument(
            "--workers",
            type=not_negative,
            help="max_parallel_maintenance_workers, beside the session's own.",
        )
        parser.add_argument(
            "--again", action="store_true", help="Also those that are there."
        )
        parser.add_argument(
            "--convert",
            action="store_true",
            help="First rewrite the vectors as MEDIA_PGVECTOR_TYPE says: nobody can search or store meanwhile.",
        )

    def handle(
        self,
        *,
        database: str,
        memory_mb: int | None,
        workers: int | None,
        again: bool,
        **options: Any,
    ) -> None:
        if not isinstance(choose(database), PgVectorStore):
            raise CommandError(
                "This database does not use pgvector: the embedded store needs no index."
            )
        wanted = BuildOptions(
            memory_bytes=memory_mb * 2**20 if memory_mb else None,
            workers=workers,
            again=again,
        )
        try:
            if options["convert"]:
                self._convert(database)
            for space in VectorSpace.objects.using(database).order_by("pk"):
                self._build(database, space, wanted)
        except (BuildRefused, DatabaseError) as error:
            raise CommandError(str(error).strip()) from error

    def _convert(self, using: str) -> None:
        before, after = stored_type(connections[using]), conf().pgvector_type
        if before == after:
            self.stdout.write(f"Vectors are stored as {after} already.")
            return
        self.stdout.write(f"Rewriting vectors from {before} to {after} …")
        convert(using, after)

    def _build(self, using: str, space: VectorSpace, wanted: BuildOptions) -> None:
        count = chunk_count(using, space)
        if space.dimensions > MAX_DIMENSIONS:
            self.stdout.write(f"{space}: too long for an index.")
            return
        if not wanted.again and has_current_index(connections[using], space):
            self.stdout.write(f"{space}: {count} chunks, indexed already.")
            return
        with tqdm(total=count, unit="chunk", desc=str(space), disable=None) as bar:

            def show(progress: BuildProgress) -> None:
                bar.set_postfix_str(progress.phase, refresh=False)
                bar.update(progress.done - bar.n)

            warning = build_index(using, space, wanted, show)
        if warning:
            self.stderr.write(f"{warning}: next time give it more with --memory-mb.")
        self.stdout.write(f"{space}: {count} chunks, indexed.")


def above_zero(text: str) -> int:
    return _integer(text, least=1)


def not_negative(text: str) -> int:
    return _integer(text, least=0)


def _integer(text: str, *, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ArgumentTypeError(f"must be a number from {least} on, not {text!r}")
    return int(text)
