"""Vectors into pgvector's table, by COPY in binary form: no numbers are written out and parsed."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from django.db.backends.base.base import BaseDatabaseWrapper
from numpy.typing import NDArray

from media_jobs.vector_store.base import Vector
from media_jobs.vector_store.pgvector_index import TABLE, stored_type
from media_jobs.vector_store.rows import StoredChunk

COPY = (
    f"COPY {TABLE} (chunk_id, media_id, space_id, embedding) FROM STDIN (FORMAT BINARY)"
)
# https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NUMBERS = {"halfvec": ">f2", "vector": ">f4"}


def copy_rows(
    connection: BaseDatabaseWrapper,
    rows: Sequence[StoredChunk],
    vectors: Sequence[Vector],
) -> None:
    """Add the vectors of chunks, whichever their spaces. Runs in the caller's transaction."""
    pairs = sorted(zip(rows, vectors, strict=True), key=lambda pair: pair[0].space_id)
    for space_id, some in groupby(pairs, key=lambda pair: pair[0].space_id):
        chunks, own = zip(*some, strict=True)
        copy_vectors(
            connection,
            [chunk.pk for chunk in chunks],
            [chunk.media_id for chunk in chunks],
            space_id,
            np.stack(own),
        )


def copy_vectors(
    connection: BaseDatabaseWrapper,
    chunk_ids: Sequence[int] | NDArray[np.int64],
    media_ids: Sequence[int] | NDArray[np.int64],
    space_id: int,
    vectors: NDArray[np.float32],
) -> None:
    """Add the vectors (n, d) of chunks of one space, in the table's precision. Runs in the caller's transaction."""
    dimensions = vectors.shape[1]
    numbers = np.dtype((NUMBERS[stored_type(connection)], (dimensions,)))
    fields = {
        "chunk_id": np.dtype(">i8"),
        "media_id": np.dtype(">i8"),
        "space_id": np.dtype(">i8"),
        # How both types are sent: the number of dimensions, a zero, the numbers.
        "embedding": np.dtype(
            [("dimensions", ">i2"), ("zero", ">i2"), ("numbers", numbers)]
        ),
    }
    row: list[Any] = [("fields", ">i2")]
    for name, kind in fields.items():
        row += [(f"{name}_bytes", ">i4"), (name, kind)]
    rows = np.zeros(len(vectors), dtype=row)
    rows["fields"] = len(fields)
    for name, kind in fields.items():
        rows[f"{name}_bytes"] = kind.itemsize
    rows["chunk_id"], rows["media_id"], rows["space_id"] = (
        chunk_ids,
        media_ids,
        space_id,
    )
    rows["embedding"]["dimensions"] = dimensions
    rows["embedding"]["numbers"] = vectors
    with connection.cursor() as cursor, cursor.copy(COPY) as copy:
        copy.write(HEADER + rows.tobytes() + TRAILER)
