"""Whether a transaction took place whose end was never heard of: the connection broke while it was committed.

PostgreSQL knows. SQLite has no such connection.
"""

import contextlib
from collections.abc import Iterator

from django.db import DataError, connection, transaction


class Commit:
    """The last transaction of one writer. `in_doubt`: nobody knows yet whether it took place."""

    def __init__(self) -> None:
        self._transaction: str | None = None

    @property
    def in_doubt(self) -> bool:
        return self._transaction is not None

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        """Be a transaction; where its commit fails, it is in doubt."""
        self._transaction = None
        with transaction.atomic():
            yield
            self._transaction = _current()
        self._transaction = None

    def took_place(self) -> bool | None:
        """Return how a transaction in doubt ended, and doubt no more; None while it has not. Raises DatabaseError."""
        with connection.cursor() as cursor:
            try:
                cursor.execute("SELECT pg_xact_status(%s::xid8)", [self._transaction])
                (status,) = cursor.fetchone()
            except DataError:
                status = "aborted"  # one of the future: the server crashed before it wrote it down
        if status == "in progress":
            return None
        self._transaction = None
        return bool(status == "committed")


def _current() -> str | None:
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text")
        number: str = cursor.fetchone()[0]
        return number
