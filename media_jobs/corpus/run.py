"""A run over a corpus: it begins the output or takes it up, and makes the shards that are missing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.db import DatabaseError

from media_jobs.chunking import chunker
from media_jobs.corpus.documents import Fields
from media_jobs.corpus.embedding import Embedder
from media_jobs.corpus.errors import CorpusError
from media_jobs.corpus.manifest import (
    CorpusSettings,
    Manifest,
    read_manifest,
    write_manifest,
)
from media_jobs.corpus.plan import Plan, Shard, files_of, make_plan
from media_jobs.corpus.shards import Done, Work, is_done, make_shard
from media_jobs.corpus.vectors import Encoding
from media_jobs.services.targets import Cutter
from providers.command import COMMAND
from providers.models import Revision

BATCH_CHUNKS, BATCH_CHARACTERS = 512, 2**17


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run is asked for; paths as this machine sees them. `requests`: batches under way at once."""

    source: Path
    output: Path
    model: str | None
    fields: Fields
    shard_rows: int
    skip_invalid: bool
    chunk_size: int
    chunk_overlap: int
    dimensions: int | None
    vectors: Encoding
    texts: bool
    requests: int

    def embedder(self) -> Embedder:
        """Raises ServiceError."""
        return Embedder.of(
            self.model, dimensions=self.dimensions, requests=self.requests
        )

    def settings(self) -> CorpusSettings:
        return CorpusSettings(
            fields=self.fields,
            shard_rows=self.shard_rows,
            skip_invalid=self.skip_invalid,
            chunk_size=self.chunk_size,
            chunk_overlap=self.chunk_overlap,
            chunker=chunker(),
            dimensions=self.dimensions,
            vectors=self.vectors,
            texts=self.texts,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run that may go on. `unread`: fields that nothing is made of, where the input was read just now."""

    work: Work
    unread: Sequence[str] = ()

    @property
    def manifest(self) -> Manifest:
        return self.work.manifest

    def missing(self, part: int = 0, parts: int = 1) -> list[Shard]:
        """Return the shards that are not done, of every `parts`-th from `part` on."""
        key = self.manifest.key()
        own = (one for one in self.manifest.shards if one.number % parts == part)
        return [one for one in own if not is_done(self.work.output, one, key)]


def begin(wanted: Wanted) -> Begun:
    """Begin an output, or take it up where input, settings and model are the same.

    Raises CorpusError, ServiceError, ProviderError, OSError.
    """
    _require_database()
    if wanted.output.is_relative_to(wanted.source):
        raise CorpusError("OUTPUT lies in INPUT, and would be read as a part of it.")
    files_of(wanted.source)  # before a model is loaded
    embedder = wanted.embedder()
    settings, check = wanted.settings(), embedder.check()
    manifest = read_manifest(wanted.output)
    unread: Sequence[str] = ()
    if manifest is None:
        plan = _plan(wanted)
        unread = plan.unread
        write_manifest(
            wanted.output, Manifest.of(plan, settings, embedder.identity, check)
        )
        manifest = read_manifest(wanted.output)
        if manifest is None:
            raise CorpusError(f"{wanted.output} was removed just now; run it again.")
    manifest.refuse_unless_like(settings, embedder.identity)
    manifest.check.refuse_unless_like(check, embedder.target.label)
    _refuse_changed_input(wanted, manifest)
    cutter = Cutter.of(
        embedder.target, size=wanted.chunk_size, overlap=wanted.chunk_overlap
    )
    work = Work(
        manifest=manifest,
        source=wanted.source,
        output=wanted.output,
        cut=cutter.spans,
        embed=embedder.embed_all,
        confirm=embedder.confirm,
        batch_chunks=BATCH_CHUNKS,
        batch_characters=BATCH_CHARACTERS,
    )
    return Begun(work=work, unread=unread)


def make_all(work: Work, shards: Sequence[Shard]) -> Iterator[Done]:
    """Make shards one after the other, in this process."""
    for shard in shards:
        yield from make_shard(work, shard)


def _require_database() -> None:
    """Raise CorpusError where this machine's database, which has what operators set, cannot be read."""
    try:
        Revision.objects.exists()
    except DatabaseError as error:
        raise CorpusError(
            f"The database cannot be read: run `{COMMAND} migrate`, or set DATABASE_URL as for the server."
        ) from error


def _plan(wanted: Wanted) -> Plan:
    return make_plan(
        wanted.source,
        wanted.fields,
        shard_rows=wanted.shard_rows,
        skip_invalid=wanted.skip_invalid,
    )


def _refuse_changed_input(wanted: Wanted, manifest: Manifest) -> None:
    """Raise CorpusError where the input is another. Files that were only copied are read and compared."""
    now = files_of(wanted.source)
    if now == [*manifest.files]:
        return
    there, here = (
        [(one.name, one.size) for one in files] for files in (manifest.files, now)
    )
    if there == here and _plan(wanted).shards == [*manifest.shards]:
        return
    changed = sorted({name for name, _ in {*there} ^ {*here}}) or [
        one.name for one in now
    ]
    raise CorpusError(
        f"The input changed since the output was begun ({', '.join(changed[:5])}):"
        " bring it back as it was, or take another OUTPUT."
    )
