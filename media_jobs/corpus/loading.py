"""An embedded corpus into the store: documents, chunks and vectors, a batch a transaction.

Each document is known again by its id. So what is interrupted goes on, what is loaded again changes nothing, and of a
newer output of the same documents only what differs takes the place of what was there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
from django.db import IntegrityError, transaction
from django.utils import timezone

from embeddings.services.callers import Caller
from embeddings.services.dimensions import normalised
from embeddings.services.errors import ServiceError
from embeddings.services.routing import find_target
from media_jobs.corpus import vectors
from media_jobs.corpus.embedding import Embedder
from media_jobs.corpus.errors import CorpusError
from media_jobs.corpus.manifest import Manifest, read_manifest
from media_jobs.corpus.shards import is_done, path_of
from media_jobs.models import ExternalId, MediaItem
from media_jobs.services.quotas import check_store
from media_jobs.text import checksum
from media_jobs.vector_store.base import Chunk, Space, Vector
from media_jobs.vector_store.bulk import insert_rows
from media_jobs.vector_store.store import vector_store

# What one transaction stores at most, beyond the last document: SQLite has one writer, and others wait.
BATCH_DOCUMENTS, BATCH_CHUNKS = 500, 2000
READ_ROWS = 1024
# Of a document that is stored already, when another loader stored it in the meantime.
ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What became of a batch of documents."""

    new: int = 0
    changed: int = 0
    same: int = 0
    chunks: int = 0


@dataclass(slots=True, kw_only=True)
class _Document:
    """A document as an output holds it, with its chunks."""

    id: str
    text: str
    title: str
    language: str
    metadata: Mapping[str, Any]
    chunks: list[Chunk]


class Loader:
    """Loads one output for one owner. Raises CorpusError where it is not whole, or its model is another here."""

    def __init__(self, output: Path, caller: Caller) -> None:
        self._output, self._caller = output, caller
        self._owner = caller.user_id or 0
        self.manifest = _whole(output)
        _refuse_other_model(self.manifest)
        model = self.manifest.model
        self._space = Space(
            provider=model.provider,
            model=model.model,
            vector_space=model.vector_space,
            dimensions=self.manifest.check.dimensions,
        )

    def load(self) -> Iterator[Loaded]:
        """Load all shards. Raises QuotaExceeded; what was loaded until then stays."""
        for shard in self.manifest.shards:
            for batch in _batches(_documents(path_of(self._output, shard.number))):
                yield self._load(batch)

    def build_index(self) -> None:
        vector_store().build_index(self._space)

    def _load(self, batch: Sequence[_Document]) -> Loaded:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with transaction.atomic():
                    return self._put(batch)
            except IntegrityError as error:
                if attempt == ATTEMPTS:
                    raise CorpusError(
                        "The owner was deleted, or others load the same documents: run it again."
                    ) from error
        raise AssertionError

    def _put(self, batch: Sequence[_Document]) -> Loaded:
        rows = ExternalId.objects.filter(
            owner=self._owner, name__in=[one.id for one in batch]
        )
        found = rows.select_related("media").defer("media__content")
        known = {row.name: row.media for row in found}
        now = timezone.now()
        new = [one for one in batch if one.id not in known]
        changed = [
            one
            for one in batch
            if one.id in known and not self._is_same(known[one.id], one)
        ]
        self._check_quota(new, changed, known)
        fresh = [self._filled(MediaItem(created_at=now), one, now) for one in new]
        insert_rows(fresh, MediaItem.objects.db)
        names = (
            ExternalId(media=item, owner=self._owner, name=one.id)
            for item, one in zip(fresh, new, strict=True)
        )
        insert_rows([*names], ExternalId.objects.db)
        others = [self._filled(known[one.id], one, now) for one in changed]
        if others:
            vector_store().delete([item.pk for item in others])
            for item in others:
                item.save()
        stored = zip([*fresh, *others], [*new, *changed], strict=True)
        items = [(item.pk, one.chunks) for item, one in stored]
        if items:
            vector_store().load(self._space, items)
        return Loaded(
            new=len(new),
            changed=len(changed),
            same=len(batch) - len(items),
            chunks=sum(len(chunks) for _, chunks in items),
        )

    def _check_quota(
        self,
        new: Sequence[_Document],
        changed: Sequence[_Document],
        known: Mapping[str, MediaItem],
    ) -> None:
        more = sum(len(one.text.encode()) for one in (*new, *changed))
        more -= sum(known[one.id].text_bytes for one in changed)
        check_store(self._caller, new_documents=len(new), more_bytes=more)

    def _is_same(self, item: MediaItem, one: _Document) -> bool:
        fields = self._fields(one)
        return all(getattr(item, name) == value for name, value in fields.items())

    def _filled(self, item: MediaItem, one: _Document, now: datetime) -> MediaItem:
        """Return the document's row, as it is after a job."""
        for name, value in self._fields(one).items():
            setattr(item, name, value)
        item.owner_id = self._caller.user_id
        item.content = one.text
        item.characters = len(one.text)
        item.text_bytes = len(one.text.encode())
        item.updated_at = item.embedded_at = now
        return item

    def _fields(self, one: _Document) -> dict[str, Any]:
        """Return what two rows of the same document have in common."""
        text = checksum(one.text)
        return {
            "title": one.title,
            "language": one.language,
            "metadata": dict(one.metadata),
            "checksum": text,
            "embedded_checksum": text,
            "embedding_provider": self._space.provider,
            "embedding_model": self._space.model,
            "embedded_revision": self.manifest.model.revision,
            "vector_space": self._space.vector_space,
            "dimensions": self._space.dimensions,
            "embedding_count": len(one.chunks),
        }


def _whole(output: Path) -> Manifest:
    """Return the manifest of a finished output. Raises CorpusError."""
    manifest = read_manifest(output)
    if manifest is None:
        raise CorpusError(
            f"{output} has no manifest.json: it is no output of embed_corpus."
        )
    if not manifest.settings.texts:
        raise CorpusError(
            "The output has no texts: embed the corpus again without --no-texts."
        )
    key = manifest.key()
    missing = sum(not is_done(output, shard, key) for shard in manifest.shards)
    if missing:
        raise CorpusError(
            f"{missing:,} of {len(manifest.shards):,} shards are missing: run embed_corpus again first."
        )
    return manifest


def _refuse_other_model(manifest: Manifest) -> None:
    """Raise CorpusError unless this deployment embeds queries and documents as the output was embedded."""
    there = manifest.model
    label = f"{there.provider}:{there.model}"
    try:
        target = find_target(model=there.model, provider=there.provider)
        embedder = Embedder(target, dimensions=manifest.settings.dimensions, requests=1)
        here = embedder.identity
        for name in ("vector_space", "revision"):
            made, own = getattr(there, name), getattr(here, name)
            if made != own:
                raise CorpusError(
                    f"The output is of another {name.replace('_', ' ')} of {label} than this deployment's:"
                    f" {made!r} there, {own!r} here. Embed the corpus with this deployment's model."
                )
        manifest.check.refuse_unless_like(embedder.check(), label)
    except ServiceError as error:
        raise CorpusError(
            f"The output was made by {label}, which this deployment cannot run: {error.message}"
        ) from error


def _batches(documents: Iterable[_Document]) -> Iterator[list[_Document]]:
    batch: list[_Document] = []
    chunks = 0
    for one in documents:
        batch.append(one)
        chunks += len(one.chunks)
        if len(batch) >= BATCH_DOCUMENTS or chunks >= BATCH_CHUNKS:
            yield batch
            batch, chunks = [], 0
    if batch:
        yield batch


def _documents(path: Path) -> Iterator[_Document]:
    """Yield the documents of a shard: their rows follow each other, and the first holds the text."""
    document: _Document | None = None
    for row, vector in _rows(path):
        if row["chunk"] == 0:
            if document is not None:
                yield document
            document = _Document(
                id=row["id"],
                text=row["text"],
                title=row["title"],
                language=row["language"],
                metadata=orjson.loads(row["metadata"]),
                chunks=[],
            )
        if document is None or document.id != row["id"]:
            raise CorpusError(
                f"{path} is damaged: remove it, and run embed_corpus again."
            )
        start, end = row["start"], row["end"]
        chunk = Chunk(
            index=row["chunk"],
            text=document.text[start:end],
            start=start,
            end=end,
            vector=vector,
        )
        document.chunks.append(chunk)
    if document is not None:
        yield document


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], Vector]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(READ_ROWS):
            made = normalised(vectors.read(batch))
            others = [
                name for name in batch.schema.names if name not in ("vector", "scale")
            ]
            yield from zip(batch.select(others).to_pylist(), made, strict=True)
