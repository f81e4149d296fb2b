"""Vectors as the database keeps them: float32, little-endian."""

import numpy as np
from numpy.typing import NDArray

from media_jobs.vector_store.base import Vector

STORED = np.dtype("<f4")


def to_bytes(vector: Vector) -> bytes:
    return vector.astype(STORED).tobytes()


def from_bytes(data: bytes | memoryview) -> NDArray[np.float32]:
    """Return float32 (d,), read-only."""
    return np.frombuffer(data, dtype=STORED)
