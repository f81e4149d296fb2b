"""How a corpus is cut into shards: the same cut whoever makes it, so that many may work without speaking to each other.

To make the plan is to read the whole input once: what no document can be made of shows before any is embedded.
"""

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from media_jobs.corpus.documents import Fields
from media_jobs.corpus.errors import CorpusError
from media_jobs.corpus.reading import Part, Row, fields_of, input_files, rows

NAMED_PROBLEMS = 10
# The number of a row, by its file.
Problems = Mapping[tuple[str, int], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An input file: its path below the input, and what shows that it changed."""

    name: str
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Documents that are embedded together. `digest`: of the rows that it was planned with.

    `start`, `end` and `first` as in `Part`. `rejected`: the rows that no document is made of, by number, and why.
    """

    number: int
    file: str
    start: int
    end: int
    first: int
    documents: int
    digest: str
    rejected: Mapping[str, str] = field(default_factory=dict)

    def part(self, source: Path) -> Part:
        """Return where it lies in the input `source`."""
        path = source / self.file if source.is_dir() else source
        return Part(path=path, start=self.start, end=self.end, first=self.first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All shards. `text_bytes`: of the documents' texts. `unread`: fields of the input that nothing is made of."""

    files: Sequence[File]
    shards: Sequence[Shard]
    text_bytes: int
    unread: Sequence[str]


def files_of(source: Path) -> list[File]:
    """Return the files of an input as they are now. Raises CorpusError."""
    found = []
    for path in input_files(source):
        stat = path.stat()
        name = path.relative_to(source).as_posix() if source.is_dir() else path.name
        found.append(File(name=name, size=stat.st_size, modified_ns=stat.st_mtime_ns))
    return found


def make_plan(
    source: Path, fields: Fields, *, shard_rows: int, skip_invalid: bool
) -> Plan:
    """Read the whole input. Raises CorpusError, for rows that are no documents unless these are to be left out."""
    files = files_of(source)
    draft = _Draft(source, fields, shard_rows, {})
    draft.read(files)
    if repeated := draft.repeated_ids():
        duplicates = _duplicates(source, files, fields, repeated)
        draft = _Draft(source, fields, shard_rows, duplicates)
        draft.read(files)
    if draft.rejected and not skip_invalid:
        raise _refusal(draft.first_problems, draft.rejected)
    if not draft.documents:
        raise CorpusError(f"{source} holds no documents.")
    paths = input_files(source)
    unread = {name for path in paths for name in fields_of(path)} - {*fields.names}
    return Plan(
        files=files,
        shards=draft.shards,
        text_bytes=draft.text_bytes,
        unread=sorted(unread),
    )


def new_digest() -> "hashlib.blake2b":
    """Return what a shard's rows go into, as they were read, one after the other."""
    return hashlib.blake2b(digest_size=16)


class _Draft:
    """A plan while the input is read. Shards end with their file."""

    def __init__(
        self, source: Path, fields: Fields, shard_rows: int, duplicates: Problems
    ) -> None:
        self._source, self._fields = source, fields
        self._shard_rows, self._duplicates = shard_rows, duplicates
        self._ids = array("Q")
        self.shards: list[Shard] = []
        self.first_problems: list[str] = []
        self.rejected = self.documents = self.text_bytes = 0

    def read(self, files: Sequence[File]) -> None:
        for file in files:
            left = rows(_whole(self._source, file), self._fields)
            start, first = 0, 1
            while last := self._take(file.name, left, start, first):
                start, first = last

    def repeated_ids(self) -> set[int]:
        """Return the hashes that several ids have: nearly always one id that comes again."""
        found, counts = np.unique(
            np.frombuffer(self._ids, np.uint64), return_counts=True
        )
        return {int(one) for one in found[counts > 1]}

    def _take(
        self, file: str, left: Iterator[Row], start: int, first: int
    ) -> tuple[int, int] | None:
        """Make the next shard of a file; return where the one behind it starts, None at the file's end."""
        digest, rejected, count, row = new_digest(), {}, 0, None
        for row in islice(left, self._shard_rows):
            digest.update(row.raw)
            count += 1
            if problem := self._problem(file, row):
                rejected[str(row.number)] = problem
        if row is None:
            return None
        self.rejected += len(rejected)
        self.documents += count - len(rejected)
        shard = Shard(
            number=len(self.shards),
            file=file,
            start=start,
            end=row.end,
            first=first,
            documents=count - len(rejected),
            digest=digest.hexdigest(),
            rejected=rejected,
        )
        self.shards.append(shard)
        return row.end, row.number + 1

    def _problem(self, file: str, row: Row) -> str:
        """Count a row, and say why it is no document, if so."""
        problem = row.problem or self._duplicates.get((file, row.number), "")
        if row.document is not None and not problem:
            self._ids.append(_hash(row.document.id))
            self.text_bytes += len(row.document.text.encode())
        elif len(self.first_problems) < NAMED_PROBLEMS:
            self.first_problems.append(f"{file}:{row.number}: {problem}")
        return problem


def _duplicates(
    source: Path, files: Sequence[File], fields: Fields, repeated: set[int]
) -> dict[tuple[str, int], str]:
    """Find the rows whose id an earlier row has."""
    places: dict[str, str] = {}
    found = {}
    for file in files:
        for row in rows(_whole(source, file), fields):
            if row.document is None or _hash(row.document.id) not in repeated:
                continue
            place = f"{file.name}:{row.number}"
            known = places.setdefault(row.document.id, place)
            if known != place:
                found[file.name, row.number] = (
                    f"{fields.id} {row.document.id} is that of {known}, too."
                )
    return found


def _whole(source: Path, file: File) -> Part:
    return Part(path=source / file.name if source.is_dir() else source)


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())


def _refusal(problems: Sequence[str], rejected: int) -> CorpusError:
    more = rejected - len(problems)
    lines = [*problems, *([f"and {more:,} more"] if more else [])]
    listed = "\n  ".join(lines)
    return CorpusError(
        f"{rejected:,} rows are no documents:\n  {listed}\n"
        "Correct them, or leave them out with --skip-invalid, which lists them in OUTPUT/rejects."
    )
