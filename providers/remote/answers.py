"""From an upstream's JSON to float32 vectors, trusting nothing. Knows no HTTP."""

import binascii
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from providers.base import Vectors

# What a JSON parser returns; the one place where `Any` enters.
Json = Any

# A double takes 24 characters, pretty-printing (Google's habit) some 20 more of white
# space.
MAX_BYTES_PER_NUMBER = 48
MAX_UNKNOWN_DIMENSIONS = 8192
MAX_ANSWER_BYTES = 256 * 1024 * 1024


class BadAnswerError(ValueError):
    """The answer is not what was asked for. The text completes "<provider> ..." and
    quotes nothing of the answer.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One upstream answer, unchecked: a row per text (numbers, or base64 of
    little-endian float32), tokens if given.
    """

    rows: Sequence[Json]
    prompt_tokens: int | None = None


def max_answer_bytes(count: int, dimensions: int | None) -> int:
    """Return how long an honest answer of `count` vectors can be."""
    numbers = count * (dimensions or MAX_UNKNOWN_DIMENSIONS)
    return min(
        64 * 1024 + count * 1024 + numbers * MAX_BYTES_PER_NUMBER, MAX_ANSWER_BYTES
    )


def checked_vectors(
    rows: Sequence[Json], *, count: int, dimensions: int | None
) -> Vectors:
    """Return float32 (count, d), finite; `dimensions` None takes the first row's size.
    Raises BadAnswerError.
    """
    if len(rows) != count:
        raise BadAnswerError(f"answered with {len(rows)} vectors for {count} texts")
    vectors = [_vector(row) for row in rows]
    width = dimensions or len(vectors[0])
    if not width or any(len(vector) != width for vector in vectors):
        raise BadAnswerError(f"answered with vectors that are not {width} numbers long")
    with np.errstate(over="ignore", invalid="ignore"):
        stacked = np.stack(vectors).astype(np.float32)
    if not np.isfinite(stacked).all():
        raise BadAnswerError("answered with numbers that are not finite float32")
    return stacked


def indexed_answer(payload: Json) -> Answer:
    """Read the shape that OpenAI made common: `data[].embedding` with `data[].index`,
    `usage.prompt_tokens`.

    Rows come back in the order of their indexes where the upstream gives any. Voyage
    only has `usage.total_tokens`.
    """
    items = field(payload, "data", kind=list)
    usage = payload.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tokens = whole_number(usage.get("prompt_tokens", usage.get("total_tokens")))
    return Answer(
        rows=[field(item, "embedding") for item in _in_order(items)],
        prompt_tokens=tokens,
    )


def field(payload: Json, *path: str, kind: type = object) -> Json:
    """Return the value at `path`, of type `kind`. Raises BadAnswerError, naming the
    path.
    """
    for name in path:
        payload = payload.get(name) if isinstance(payload, dict) else None
    if payload is None or not isinstance(payload, kind):
        raise BadAnswerError(f"answered without a usable '{'.'.join(path)}'")
    return payload


def whole_number(value: Json) -> int | None:
    """Return a token count, or None for anything that is not one."""
    return value if type(value) is int and value >= 0 else None


def _in_order(items: Sequence[Json]) -> Sequence[Json]:
    given = [item.get("index") if isinstance(item, dict) else None for item in items]
    if all(index is None for index in given):
        return items
    by_index = {
        index: item
        for index, item in zip(map(_index, given), items, strict=True)
        if index is not None
    }
    if sorted(by_index) != list(range(len(items))):
        raise BadAnswerError("answered with missing or repeated indexes")
    return [by_index[index] for index in range(len(items))]


def _index(value: Json) -> int | None:
    """Return the whole number that an upstream may have written as 0.0 or "0"; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value[:20])
    return value if type(value) is int else None


def _vector(row: Json) -> NDArray[Any]:
    if isinstance(row, str):
        return _from_base64(row)
    # A set of types also catches bool, which numpy would take for a number.
    if not isinstance(row, list) or not set(map(type, row)) <= {int, float}:
        raise BadAnswerError("answered with a vector that is no list of numbers")
    return np.array(row, dtype=np.float64)


def _from_base64(row: str) -> NDArray[Any]:
    try:
        return np.frombuffer(b64decode(row, validate=True), dtype="<f4")
    except (binascii.Error, ValueError) as error:
        raise BadAnswerError(
            "answered with a vector that is no base64 of float32"
        ) from error
