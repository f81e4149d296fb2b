"""Rows copied to the target page by page, in the order of their keys: each page and the record of it, or neither."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DataError, connections, models, transaction

from embeddings_project.move.tables import (
    Model,
    MoveProblem,
    columns,
    name_of,
    read,
)
from embeddings_project.move.target import ALIAS, Target
from media_jobs.models import StoredChunk
from media_jobs.vector_store.base import from_bytes
from media_jobs.vector_store.bulk import copy_into
from media_jobs.vector_store.sql import INSERT_ROWS
from media_jobs.vector_store.store import choose

PAGE_ROWS = 2000

Watch = Callable[[int], None]  # is told how many rows were done


def copy_table(model: Model, target: Target, watch: Watch) -> None:
    """Copy what of a table is not in the target yet. Raises MoveProblem for a row that PostgreSQL cannot hold."""
    copy_page = _copy_chunks if model is StoredChunk else _copy_rows
    last, rows = target.read(name_of(model)) or (None, 0)
    watch(rows)
    while True:
        with transaction.atomic(using=ALIAS):
            keys = copy_page(model, last)
            if not keys:
                return
            last, rows = keys[-1], rows + len(keys)
            target.write(name_of(model), [last, rows])
        watch(len(keys))


def _page(model: Model, last: Any) -> "models.QuerySet[Any]":
    rows = model._base_manager.using(DEFAULT_DB_ALIAS).order_by("pk")
    if last is not None:
        rows = rows.filter(pk__gt=last)
    return rows[:PAGE_ROWS]


def _copy_rows(model: Model, last: Any) -> list[Any]:
    """Copy a page by COPY, and return its keys."""
    fields, connection = columns(model), connections[ALIAS]
    pk = [field.primary_key for field in fields].index(True)
    keys: list[Any] = []

    def prepared() -> Iterator[list[Any]]:
        for row in read(_page(model, last)):
            keys.append(row[pk])
            yield [
                field.get_db_prep_save(value, connection)
                for field, value in zip(fields, row, strict=True)
            ]

    names = [str(field.column) for field in fields]
    with _unfit_named(model, keys):
        copy_into(connection, name_of(model), names, prepared())
    return keys


def _copy_chunks(model: Model, last: Any) -> list[Any]:
    """Copy a page of chunks and their vectors by way of the target's store, and return its keys."""
    store, keys = choose(ALIAS), []
    for rows in _batches(_page(model, last).iterator(INSERT_ROWS)):
        batch = [row.pk for row in rows]
        vectors = [from_bytes(row.vector or b"") for row in rows]
        for row in rows:
            row.vector = None
        with _unfit_named(model, batch):
            store.insert(rows, vectors)
        keys += batch
    return keys


def _batches(rows: Iterator[StoredChunk]) -> Iterator[list[StoredChunk]]:
    batch: list[StoredChunk] = []
    for row in rows:
        batch.append(row)
        if len(batch) == INSERT_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def _unfit_named(model: Model, keys: list[Any]) -> Iterator[None]:
    """Raises MoveProblem for a row that PostgreSQL cannot hold; `keys`: of the rows, in their order."""
    try:
        with connections[ALIAS].wrap_database_errors:
            yield
    except DataError as error:
        raise _unfit(model, keys, error) from error


def _unfit(model: Model, keys: list[Any], error: DataError) -> MoveProblem:
    """Name the row and the column, as far as they are known, and never what they hold."""
    cause = getattr(error.__cause__, "diag", None)
    found = re.search(
        r"COPY \S+ line (\d+)(?:, column (\w+))?", getattr(cause, "context", None) or ""
    )
    where = name_of(model)
    if found:
        column = f" of {found[2]}" if found[2] else ""
        where += f", row {keys[int(found[1]) - 1]}{column}"
    elif keys:
        where += f", row {keys[-1]} or one of the {len(keys) - 1} before it"
    reason = getattr(cause, "message_primary", None) or "it holds a NUL character"
    return MoveProblem(
        f"PostgreSQL cannot hold what stands in {where}: {reason}. Change or delete it, and run move_to again."
    )
