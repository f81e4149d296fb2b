"""Many new rows at once: PostgreSQL takes them by COPY, other databases by INSERT."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper


def insert_rows(rows: Sequence[models.Model], using: str) -> None:
    """Insert rows of one model, and give them their keys. Runs in a transaction of the caller's."""
    if not rows:
        return
    model, connection = type(rows[0]), connections[using]
    if connection.vendor != "postgresql":
        model._default_manager.using(using).bulk_create(rows)
        return
    if rows[0].pk is None:
        for row, key in zip(
            rows, _next_keys(connection, model, len(rows)), strict=True
        ):
            row.pk = key
    fields = model._meta.local_concrete_fields
    values = (
        [
            field.get_db_prep_save(field.pre_save(row, add=True), connection)
            for field in fields
        ]
        for row in rows
    )
    copy_into(
        connection,
        model._meta.db_table,
        [str(field.column) for field in fields],
        values,
    )


def copy_into(
    connection: BaseDatabaseWrapper,
    table: str,
    columns: Iterable[str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """COPY rows of values into a table of PostgreSQL."""
    quote = connection.ops.quote_name
    names = ", ".join(quote(column) for column in columns)
    sql = f"COPY {quote(table)} ({names}) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(sql) as copy:
        for row in rows:
            copy.write_row(row)


def _next_keys(
    connection: BaseDatabaseWrapper, model: type[models.Model], count: int
) -> list[int]:
    """Take keys from the table's own sequence."""
    sql = "SELECT nextval(pg_get_serial_sequence(%s, %s)) FROM generate_series(1, %s)"
    key = model._meta.pk
    with connection.cursor() as cursor:
        cursor.execute(sql, [model._meta.db_table, key.column, count])
        return [row[0] for row in cursor.fetchall()]
