"""Counts into the database: one UPSERT a row, each adding to what is there."""

from collections.abc import Sequence

from django.db import connection, models


def add_up(
    model: type[models.Model],
    rows: Sequence[models.Model],
    *,
    keys: Sequence[str],
    sums: Sequence[str],
    latest: Sequence[str] = (),
    highest: Sequence[str] = (),
) -> None:
    """Insert `rows`, or add their `sums` to the rows with the same `keys`, in either database that is served.

    Of `latest` the new value stays, of `highest` the greater one.
    """
    if not rows:
        return
    table = connection.ops.quote_name(model._meta.db_table)
    written = {*keys, *sums, *latest, *highest}
    greater = "MAX" if connection.vendor == "sqlite" else "GREATEST"
    fields = [field for field in model._meta.concrete_fields if field.name in written]
    sets = [f"{name} = {table}.{name} + excluded.{name}" for name in sums]
    sets += [f"{name} = excluded.{name}" for name in latest]
    sets += [f"{name} = {greater}({table}.{name}, excluded.{name})" for name in highest]
    sql = (
        f"INSERT INTO {table} ({', '.join(field.name for field in fields)})"  # noqa: S608  (names from the model)
        f" VALUES ({', '.join(['%s'] * len(fields))})"
        f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(sets)}"
    )
    values = [
        [
            field.get_db_prep_save(getattr(row, field.name), connection)
            for field in fields
        ]
        for row in rows
    ]
    with connection.cursor() as cursor:
        cursor.executemany(sql, values)
