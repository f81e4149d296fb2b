"""How vectors lie in the output: float32, float16, or int8 with a scale for each."""

from typing import Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from providers.base import Vectors

Encoding = Literal["float32", "float16", "int8"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
_TYPES = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}
LARGEST = 127


def fields(encoding: Encoding, dimensions: int) -> list[pa.Field]:
    """Return the columns that hold vectors."""
    vector = pa.field("vector", pa.list_(_TYPES[encoding], dimensions))
    return [vector, *([pa.field("scale", pa.float32())] if encoding == "int8" else [])]


def columns(vectors: Vectors, encoding: Encoding) -> dict[str, pa.Array]:
    """Return float32 (n, d) as these columns. int8 times its scale is within half a scale of the value."""
    if encoding == "int8":
        scales = np.abs(vectors).max(axis=1) / LARGEST
        safe = np.where(scales > 0, scales, 1)[:, None]
        rows = np.rint(vectors / safe).astype(np.int8)
        return {"vector": _lists(rows), "scale": pa.array(scales, pa.float32())}
    return {"vector": _lists(vectors.astype(encoding))}


def read(table: pa.RecordBatch) -> Vectors:
    """Return the vectors of a batch as float32 (n, d), of unit length up to their encoding."""
    column = table.column("vector")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    rows: Vectors = flat.reshape(len(column), column.type.list_size).astype(np.float32)
    if "scale" in table.schema.names:
        rows *= table.column("scale").to_numpy()[:, None]
    return rows


def _lists(rows: NDArray[np.generic]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
