"""Which tables are carried over, in which order, and what makes two of them equal."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Context, Decimal
from hashlib import blake2b
from typing import Any

from django.apps import apps
from django.db import models

from embeddings.services.processes import RUNTIME_MODELS
from media_jobs.models import MediaItem

Model = type[models.Model]

EXACT = Context(prec=2000)  # rounds nothing that a database holds
# Rows that are read at a time: a document's text may have MEDIA_MAX_BYTES.
READ_ROWS: dict[Model, int] = {MediaItem: 1}
USUAL_ROWS = 500
# The processes that run, and the calls for workers, which call again for the jobs that wait.
NOT_CARRIED = ("django_q", *(model._meta.label for model in RUNTIME_MODELS))


class MoveProblem(Exception):
    """Why the data cannot be carried over, with the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """How many rows there are, and the sum of their hashes, which is the same in any order."""

    rows: int
    checksum: str


def carried() -> list[Model]:
    """Return the models whose rows are carried over, each behind those that it refers to."""
    ordered: dict[Model, None] = {}
    for model in apps.get_models(include_auto_created=True):
        _put(model, ordered)
    return [*ordered]


def name_of(model: Model) -> str:
    return model._meta.db_table


def columns(model: Model) -> list["models.Field[Any, Any]"]:
    """Return a model's columns but the vectors of chunks: where those lie is for the store to say."""
    fields = model._meta.concrete_fields
    return [field for field in fields if field.name != "vector"]


def read(rows: "models.QuerySet[Any]") -> Iterator[tuple[Any, ...]]:
    """Read these rows' columns, few at a time."""
    at_once = READ_ROWS.get(rows.model, USUAL_ROWS)
    return rows.values_list(*names(rows.model)).iterator(at_once)


def names(model: Model) -> list[str]:
    return [field.attname for field in columns(model)]


def digest_of(rows: Iterable[tuple[Any, ...]]) -> Digest:
    """Return the digest of rows as Django reads them, from whichever database."""
    count = total = 0
    for row in rows:
        text = json.dumps(
            [_plain(value) for value in row], sort_keys=True, separators=(",", ":")
        )
        one = blake2b(text.encode(), digest_size=16).digest()
        total = (total + int.from_bytes(one)) % 2**128
        count += 1
    return Digest(rows=count, checksum=f"{total:032x}")


def _put(model: Model, ordered: dict[Model, None]) -> None:
    meta = model._meta
    if meta.proxy or not meta.managed or model in ordered:
        return
    if meta.app_label in NOT_CARRIED or meta.label in NOT_CARRIED:
        return
    for field in meta.concrete_fields:
        if field.related_model not in (None, model):
            _put(field.related_model, ordered)
    ordered[model] = None


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it, the same for all that the two databases write differently."""
    match value:
        case None | bool() | int() | str():
            return value
        case float() | Decimal():
            return _number(Decimal(repr(value)) if isinstance(value, float) else value)
        case datetime():
            return value.astimezone(UTC).isoformat()
        case bytes() | memoryview():
            return bytes(value).hex()
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case _:
            return str(value)


def _number(value: Decimal) -> int | str:
    """Return a number however it is written: jsonb makes a whole number of 1e20, and 0.0 of -0.0."""
    if value.is_finite() and value == value.to_integral_value():
        return int(value)
    return f"{EXACT.normalize(value):f}"
