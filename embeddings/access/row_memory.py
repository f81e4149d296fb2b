"""Rows that every request asks for and that seldom change."""

import threading
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.db import connection
from django.db.models import Model, QuerySet

MAX_ROWS = 10_000

Row = TypeVar("Row", bound=Model)


class RowMemory(Generic[Row]):
    """Find rows by a unique field. The database is asked every time, so that a change counts at once; but what Django
    takes long for, writing the SQL and building the objects, is done only if a column differs from the last time.

    The objects are shared by threads and must not be changed.
    """

    def __init__(self, rows: QuerySet[Row], field: str) -> None:
        self._rows = rows.order_by()
        self._field = field
        self._lock = threading.Lock()
        self._known: dict[str, tuple[tuple[Any, ...], Row]] = {}

    def find(self, value: str) -> Row | None:
        """Return the row whose field is `value`, or None. One query, three when the row is new or has changed."""
        columns = self._columns(value)
        if columns is None:
            return None
        known = self._known.get(value)
        if known is not None and known[0] == columns:
            return known[1]
        row = self._rows.filter(**{self._field: value}).first()
        if row is not None and self._columns(value) == columns:
            self._remember(value, columns, row)
        return row

    def _remember(self, value: str, columns: tuple[Any, ...], row: Row) -> None:
        with self._lock:
            if len(self._known) >= MAX_ROWS:
                self._known.clear()
            self._known[value] = (columns, row)

    def _columns(self, value: str) -> tuple[Any, ...] | None:
        with connection.cursor() as cursor:
            cursor.execute(self._sql, [value])
            columns: tuple[Any, ...] | None = cursor.fetchone()
            return columns

    @cached_property
    def _sql(self) -> str:
        """The statement, written once."""
        query = self._rows.filter(**{self._field: ""}).query
        sql: str = query.sql_with_params()[0]
        return sql
