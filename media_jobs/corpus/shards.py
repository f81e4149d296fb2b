"""One shard's work: rows in, a Parquet file out. The finished file is the checkpoint: it appears whole or not at all.

Who is killed leaves a hidden file that nobody reads. Two that make the same shard at once write two files that say the
same, and the last one stays.
"""

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from media_jobs.chunking import Span
from media_jobs.corpus import vectors
from media_jobs.corpus.documents import Document
from media_jobs.corpus.errors import CorpusError
from media_jobs.corpus.manifest import Manifest
from media_jobs.corpus.plan import Shard, new_digest
from media_jobs.corpus.reading import rows
from providers.base import Vectors

FOLDER, REJECTS = "vectors", "rejects"
NO_TOKENS = "{} has nothing that the model can read."
# The document, on the row of its first chunk.
DOCUMENT_FIELDS = ("text", "title", "language", "metadata")

# Texts to float32 (n, d) with the tokens read, batch by batch, in order.
EmbedAll = Callable[[Iterable[list[str]]], Iterator[tuple[Vectors, int]]]
Cut = Callable[[str], Iterable[Span]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was done since the last of these: documents, their chunks and tokens."""

    documents: int = 0
    chunks: int = 0
    tokens: int = 0

    @classmethod
    def sum(cls, steps: Iterable["Done"]) -> "Done":
        found = [*steps]
        return cls(
            documents=sum(one.documents for one in found),
            chunks=sum(one.chunks for one in found),
            tokens=sum(one.tokens for one in found),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What all shards of a run share.

    `confirm` raises where the model is no longer what it was. `batch_chunks` and `batch_characters`: how much is
    embedded together at most.
    """

    manifest: Manifest
    source: Path
    output: Path
    cut: Cut
    embed: EmbedAll
    confirm: Callable[[], None]
    batch_chunks: int
    batch_characters: int


@dataclass(slots=True)
class _Piece:
    """A chunk on its way."""

    document: Document
    index: int
    span: Span

    @property
    def text(self) -> str:
        return self.document.text[self.span.start : self.span.end]


def path_of(output: Path, number: int) -> Path:
    """Return where a shard's file lies."""
    return output / FOLDER / f"part-{number:06}.parquet"


def is_done(output: Path, shard: Shard, key: str) -> bool:
    """Whether the shard's file is there, whole and of this manifest; another one is made again."""
    try:
        found = pq.read_metadata(path_of(output, shard.number)).metadata or {}
    except (FileNotFoundError, pa.ArrowInvalid):
        return False
    return found.get(b"manifest") == key.encode()


def written(output: Path, number: int) -> Mapping[str, int]:
    """Return what a finished shard counts: documents, chunks, tokens, rejected."""
    found = pq.read_metadata(path_of(output, number)).metadata or {}
    counts: dict[str, int] = orjson.loads(found[b"counts"])
    return counts


def make_shard(work: Work, shard: Shard) -> Iterator[Done]:
    """Embed a shard and put its file in place, telling what is done as it goes.

    Raises CorpusError where its rows are not those that were planned, ServiceError, ProviderError, OSError.
    """
    final = path_of(work.output, shard.number)
    final.parent.mkdir(parents=True, exist_ok=True)
    draft = final.with_name(f".{final.name}.{secrets.token_hex(6)}.tmp")
    rejected = dict(shard.rejected)
    try:
        yield from _write(work, shard, draft, rejected)
        work.confirm()
        _put_rejects(work.output, shard, rejected)
        _put(draft, final)
    finally:
        draft.unlink(missing_ok=True)
    for left in final.parent.glob(f".{final.name}.*.tmp"):  # of runs that were killed
        left.unlink(missing_ok=True)


def schema(manifest: Manifest) -> pa.Schema:
    """Return the columns of a shard's file."""
    texts = [(name, pa.string()) for name in DOCUMENT_FIELDS]
    return pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("chunk", pa.int32()),
            pa.field("start", pa.int64()),
            pa.field("end", pa.int64()),
            *vectors.fields(manifest.settings.vectors, manifest.check.dimensions),
            *(texts if manifest.settings.texts else []),
        ]
    )


def _write(
    work: Work, shard: Shard, draft: Path, rejected: dict[str, str]
) -> Iterator[Done]:
    pieces = _pieces(work, shard, rejected)
    held: list[list[_Piece]] = []

    def batches() -> Iterator[list[str]]:
        for batch in _batches(work, pieces):
            held.append(batch)
            yield [piece.text for piece in batch]

    documents = chunks = tokens = 0
    columns = schema(work.manifest)
    with draft.open("wb") as file:
        with pq.ParquetWriter(
            file,
            columns,
            compression="zstd",
            use_dictionary=["id", "language"],
            write_statistics=["id", "chunk"],
        ) as writer:
            for made, read in work.embed(batches()):
                batch = held.pop(0)
                writer.write_batch(_table(work.manifest, columns, batch, made))
                begun = sum(piece.index == 0 for piece in batch)
                documents, chunks = documents + begun, chunks + len(batch)
                tokens += read
                yield Done(documents=begun, chunks=len(batch), tokens=read)
            counts = {
                "documents": documents,
                "chunks": chunks,
                "tokens": tokens,
                "rejected": len(rejected),
            }
            writer.add_key_value_metadata(
                {
                    "manifest": work.manifest.key(),
                    "counts": orjson.dumps(counts).decode(),
                }
            )
        file.flush()
        os.fsync(file.fileno())


def _pieces(work: Work, shard: Shard, rejected: dict[str, str]) -> Iterator[_Piece]:
    """Yield the chunks of a shard. Raises CorpusError at its end where its rows are others than were planned."""
    settings, digest = work.manifest.settings, new_digest()
    part = shard.part(work.source)
    for row in rows(part, settings.fields):
        digest.update(row.raw)
        if row.document is None or str(row.number) in rejected:
            continue
        index = -1
        for index, span in enumerate(work.cut(row.document.text)):
            yield _Piece(row.document, index, span)
        if index < 0:
            problem = NO_TOKENS.format(settings.fields.text)
            if not settings.skip_invalid:
                raise CorpusError(
                    f"{shard.file}:{row.number}: {problem} Correct it, or leave such rows out with --skip-invalid."
                )
            rejected[str(row.number)] = problem
    if digest.hexdigest() != shard.digest:
        raise CorpusError(
            f"{part.path} changed since the output was begun: bring it back as it was, or take another OUTPUT."
        )


def _batches(work: Work, pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    batch: list[_Piece] = []
    size = 0
    for piece in pieces:
        length = piece.span.end - piece.span.start
        full = len(batch) == work.batch_chunks
        if full or (batch and size + length > work.batch_characters):
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += length
    if batch:
        yield batch


def _table(
    manifest: Manifest, columns: pa.Schema, batch: Sequence[_Piece], made: Vectors
) -> pa.RecordBatch:
    found: dict[str, Any] = {
        "id": [piece.document.id for piece in batch],
        "chunk": [piece.index for piece in batch],
        "start": [piece.span.start for piece in batch],
        "end": [piece.span.end for piece in batch],
        **vectors.columns(made, manifest.settings.vectors),
    }
    if manifest.settings.texts:
        firsts = [piece.document if piece.index == 0 else None for piece in batch]
        found |= {
            "text": [one and one.text for one in firsts],
            "title": [one and one.title for one in firsts],
            "language": [one and one.language for one in firsts],
            "metadata": [one and orjson.dumps(one.metadata).decode() for one in firsts],
        }
    return pa.record_batch(found, schema=columns)


def _put(draft: Path, final: Path) -> None:
    """Rename a finished file into place, for good."""
    try:
        draft.replace(final)
    except FileNotFoundError:
        # Who made the same shard at the same time was first, and removed this one.
        if not final.exists():
            raise
    _sync(final.parent)


def _put_rejects(output: Path, shard: Shard, rejected: Mapping[str, str]) -> None:
    """List the rows that are left out, before the shard counts as done."""
    if not rejected:
        return
    folder = output / REJECTS
    folder.mkdir(exist_ok=True)
    lines = (
        {"file": shard.file, "row": int(number), "problem": problem}
        for number, problem in sorted(rejected.items(), key=lambda one: int(one[0]))
    )
    draft = folder / f".{shard.number:06}.{secrets.token_hex(6)}.tmp"
    draft.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    draft.replace(folder / f"part-{shard.number:06}.jsonl")
    _sync(folder)


def _sync(folder: Path) -> None:
    """Have a rename survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
