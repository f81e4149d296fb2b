"""Rows that every request asks for and that seldom change."""

import contextlib
import math
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.core.cache.backends.filebased import FileBasedCache
from django.db import InterfaceError, OperationalError, connection
from django.db.models import Model, QuerySet

from providers.state.database import KEPT_SECONDS, LOOKUP_SECONDS, waits
from providers.state.server_folder import server_folder

MAX_ROWS = 10_000
FRESH_SECONDS = 1.0
SHARE_SECONDS = 5.0
PLACE = "\0"  # no value of a text column

Row = TypeVar("Row", bound=Model)


@dataclass(slots=True, kw_only=True)
class _Known(Generic[Row]):
    columns: tuple[Any, ...]
    row: Row
    asked_at: float
    shared_at: float = -math.inf


class RowMemory(Generic[Row]):
    """Find rows by a unique field. The database is asked at most once a second for each, so that a change counts within
    that time in every process; and what Django takes long for, writing the SQL and building the objects, is done only
    if a column differs from the last time. Values that no row has are asked for every time. While the database does not
    answer, a row that any process of this server asked it for in the last minute holds.

    The objects are shared by threads and must not be changed.
    """

    timer = staticmethod(time.monotonic)

    def __init__(self, rows: QuerySet[Row], field: str) -> None:
        self._rows = rows.order_by()
        self._field = field
        self._lock = threading.Lock()
        self._known: dict[str, _Known[Row]] = {}
        self._shared = _shared_rows(self._rows.model)

    def find(self, value: str) -> Row | None:
        """Return the row whose field is `value`, or None. At most one query, three if the row is new or has changed."""
        known, now = self._known.get(value), self.timer()
        if known is not None and now - known.asked_at < FRESH_SECONDS:
            return known.row
        try:
            with waits.at_most(LOOKUP_SECONDS):
                return self._ask(value, known, now)
        except (OperationalError, InterfaceError):
            if known is not None and self.timer() - known.asked_at <= KEPT_SECONDS:
                return known.row
            row: Row | None = self._shared.get(value) if self._shared else None
            if row is None:
                raise
            return row

    def _ask(self, value: str, known: "_Known[Row] | None", now: float) -> Row | None:
        columns = self._columns(value)
        if columns is None:
            self.forget(value)
            return None
        if known is not None and known.columns == columns:
            known.asked_at = now
            self._share(value, known)
            return known.row
        row = self._rows.filter(**{self._field: value}).first()
        if row is not None and self._columns(value) == columns:
            known = _Known(columns=columns, row=row, asked_at=now)
            self._remember(value, known)
            self._share(value, known)
        return row

    def remembers(self, value: str) -> bool:
        """Whether the row was found here before, and not missed since."""
        return value in self._known

    def forget(self, value: str) -> None:
        """Ask for this row again the next time, because it was changed here."""
        self._known.pop(value, None)
        if self._shared:
            with contextlib.suppress(OSError):
                self._shared.delete(value)

    def _share(self, value: str, known: "_Known[Row]") -> None:
        """Let the other processes have the row, for when the database is away."""
        if self._shared and known.asked_at - known.shared_at >= SHARE_SECONDS:
            known.shared_at = known.asked_at
            with contextlib.suppress(OSError):  # a full disk, or the folder is gone
                self._shared.set(value, known.row)

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


class _SharedRows(FileBasedCache):
    """Rows in files that only this user can open. They go with the server's folder."""

    def _cull(self) -> None:
        """Keep all: to look for old ones would list the folder at each write."""


def _shared_rows(model: type[Model]) -> _SharedRows | None:
    folder = server_folder()
    if folder is None:
        return None
    place = folder / "rows" / model._meta.label_lower
    try:
        return _SharedRows(str(place), {"TIMEOUT": KEPT_SECONDS})
    except OSError:
        return None
