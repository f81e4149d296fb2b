"""The rows of input files: JSON Lines as it streams, Parquet by its row groups."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from media_jobs.corpus.documents import BadRow, Document, Fields
from media_jobs.corpus.errors import CorpusError

JSONL, PARQUET = (".jsonl", ".ndjson"), (".parquet",)
BATCH_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row. `number`: of its line, or of its row in Parquet, from 1. `raw`: what it was read from.

    `end`: where reading goes on: the byte behind its line, or the number of rows so far. One of `document` and
    `problem` is given.
    """

    number: int
    raw: bytes
    end: int
    document: Document | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a file. `start`, `end`: bytes of JSON Lines, rows of Parquet. `first`: the number of its first row."""

    path: Path
    start: int = 0
    end: int | None = None
    first: int = 1


def input_files(source: Path) -> list[Path]:
    """Return the files of a corpus: the one that `source` is, or all below that folder. Raises CorpusError."""
    if source.is_file():
        if source.suffix.lower() not in (*JSONL, *PARQUET):
            raise CorpusError(
                f"{source} is neither .jsonl nor .parquet. Unpack compressed files first."
            )
        return [source]
    if not source.is_dir():
        raise CorpusError(f"{source} does not exist.")
    found = sorted(
        path
        for path in source.rglob("*")
        if path.suffix.lower() in (*JSONL, *PARQUET)
        and path.is_file()
        and not any(part[0] in "._" for part in path.relative_to(source).parts)
    )
    if not found:
        raise CorpusError(f"{source} holds no .jsonl and no .parquet files.")
    return found


def rows(part: Part, fields: Fields) -> Iterator[Row]:
    """Yield the rows of a part; of JSON Lines, blank lines are left out. Raises CorpusError, OSError."""
    raw = _parquet_rows if part.path.suffix.lower() in PARQUET else _json_rows
    for number, data, end, value, problem in raw(part, fields):
        document = None
        if not problem:
            try:
                document = fields.document(value)
            except BadRow as error:
                problem = str(error)
        yield Row(number=number, raw=data, end=end, document=document, problem=problem)


def fields_of(path: Path) -> Sequence[str]:
    """Return the names of the fields in a file, by its first row or its schema."""
    if path.suffix.lower() in PARQUET:
        return [*_opened(path).schema_arrow.names]
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                value, _ = _parsed(line)
                return [*value] if isinstance(value, dict) else []
    return []


_Raw = tuple[int, bytes, int, Any, str]


def _json_rows(part: Part, fields: Fields) -> Iterator[_Raw]:
    with part.path.open("rb") as file:
        file.seek(part.start)
        end, number = part.start, part.first - 1
        if not part.start and file.peek(4).lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"[":
            raise CorpusError(
                f"{part.path} holds a JSON array: write one JSON object a line instead."
            )
        for line in file:
            end, number = end + len(line), number + 1
            if line.strip():
                value, problem = _parsed(line)
                yield number, line, end, value, problem
            if part.end is not None and end >= part.end:
                return


def _parsed(line: bytes) -> tuple[Any, str]:
    try:
        return orjson.loads(line.removeprefix(b"\xef\xbb\xbf")), ""
    except orjson.JSONDecodeError as error:
        return None, f"is not valid JSON: {error}."


def _parquet_rows(part: Part, fields: Fields) -> Iterator[_Raw]:
    with _opened(part.path) as file:
        columns = [name for name in fields.names if name in file.schema_arrow.names]
        done = 0
        for group in range(file.num_row_groups):
            held = file.metadata.row_group(group).num_rows
            if done + held <= part.start:
                done += held
                continue
            batches = file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns)
            for batch in batches:
                skipped = min(max(part.start - done, 0), len(batch))
                done += skipped
                for value in batch.slice(skipped).to_pylist():
                    done += 1
                    raw = orjson.dumps(
                        value, default=repr, option=orjson.OPT_NON_STR_KEYS
                    )
                    yield done, raw, done, value, ""
                    if done == part.end:
                        return


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise CorpusError(f"{path} is not a whole Parquet file: {error}.") from error
