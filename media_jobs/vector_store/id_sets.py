"""Sets of ids in a query, of any size: SQLite bounds the number of parameters, PostgreSQL plans long lists slowly."""

import json
from collections.abc import Collection

from django.db import connections
from django.db.models.expressions import RawSQL


def one_of(ids: Collection[int], using: str) -> RawSQL:
    """Return what stands behind `__in`: a subquery over one parameter."""
    if connections[using].vendor == "postgresql":
        return RawSQL("SELECT unnest(%s::bigint[])", [[int(one) for one in ids]])
    return RawSQL(
        "SELECT value FROM json_each(%s)", [json.dumps([int(one) for one in ids])]
    )
