"""Rows that every request asks for and that seldom change."""

import threading
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.db import InterfaceError, OperationalError, connection
from django.db.models import Model, QuerySet

from providers.state.database import KEPT_SECONDS, LOOKUP_SECONDS, waits

MAX_ROWS = 10_000
FRESH_SECONDS = 1.0
PLACE = "\0"  # no value of a text column

Row = TypeVar("Row", bound=Model)


@dataclass(slots=True, kw_only=True)
class _Known(Generic[Row]):
    columns: tuple[Any, ...]
    row: Row
    asked_at: float


class RowMemory(Generic[Row]):
    """Find rows by a unique field. The database is asked at most once a second for each, so that a change counts within
    that time in every process; and what Django takes long for, writing the SQL and building the objects, is done only
    if a column differs from the last time. Values that no row has are asked for every time. While the database does not
    answer, a row that it was asked for in the last minute holds.

    The objects are shared by threads and must not be changed.
    """

    timer = staticmethod(time.monotonic)

    def __init__(self, rows: QuerySet[Row], field: str) -> None:
        self._rows = rows.order_by()
        self._field = field
        self._lock = threading.Lock()
        self._known: dict[str, _Known[Row]] = {}

    def find(self, value: str) -> Row | None:
        """Return the row whose field is `value`, or None. At most one query, three if the row is new or has changed."""
        known, now = self._known.get(value), self.timer()
        if known is not None and now - known.asked_at < FRESH_SECONDS:
            return known.row
        try:
            with waits.at_most(LOOKUP_SECONDS):
                return self._ask(value, known, now)
        except (OperationalError, InterfaceError):
            if known is None or self.timer() - known.asked_at > KEPT_SECONDS:
                raise
            return known.row

    def _ask(self, value: str, known: "_Known[Row] | None", now: float) -> Row | None:
        columns = self._columns(value)
        if columns is None:
            self.forget(value)
            return None
        if known is not None and known.columns == columns:
            known.asked_at = now
            return known.row
        row = self._rows.filter(**{self._field: value}).first()
        if row is not None and self._columns(value) == columns:
            self._remember(value, _Known(columns=columns, row=row, asked_at=now))
        return row

    def remembers(self, value: str) -> bool:
        """Whether the row was found here before, and not missed since."""
        return value in self._known

    def forget(self, value: str) -> None:
        """Ask for this row again the next time, because it was changed here."""
        self._known.pop(value, None)

    def _remember(self, value: str, known: "_Known[Row]") -> None:
        with self._lock:
            if len(self._known) >= MAX_ROWS:
                self._known.clear()
            self._known[value] = known

    def _columns(self, value: str) -> tuple[Any, ...] | None:
        with connection.cursor() as cursor:
            sql, first, last = self._statement
            cursor.execute(sql, [*first, value, *last])
            columns: tuple[Any, ...] | None = cursor.fetchone()
            return columns

    @cached_property
    def _statement(self) -> tuple[str, tuple[Any, ...], tuple[Any, ...]]:
        """The statement, written once, and what to give it before and after the value that is looked for."""
        sql, given = self._rows.filter(**{self._field: PLACE}).query.sql_with_params()
        place = given.index(PLACE)
        return sql, given[:place], given[place + 1 :]
