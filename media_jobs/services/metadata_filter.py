"""Whether a document's metadata holds a value at a path, as SQL that means the same on SQLite and PostgreSQL.

A key is a name where there is an object, and a place where there is a list. JSON's types are kept apart: true, "true"
and null are three things; 1 and 1.0 are one number. Text is compared without case and in one normal form. A list holds
what one of its items is.
"""

import re
from collections.abc import Sequence
from typing import Any

import orjson
from django.db.models import BooleanField, F, Func

from media_jobs.metadata import MAX_LEVELS, problem_in
from providers.folding import Sql, fold_sql, folded

PLACE = re.compile(r"0|[1-9][0-9]{0,8}")
# What PostgreSQL's operator takes for a place in a list.
LIKE_A_PLACE = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+")
MAX_PATHS = 20
MAX_PATH_LENGTH = 200
MAX_VALUES = 100
SCALARS = (str, int, float, bool, type(None))
LITERALS = {True: "true", False: "false", None: "null"}


def filter_problem(wanted: Any) -> str | None:
    """Say what is wrong with a filter (paths, each with a value or a list of values), or return None."""
    if not isinstance(wanted, dict) or len(wanted) > MAX_PATHS:
        return f"must be an object of at most {MAX_PATHS} paths."
    problems = (
        _path_problem(path, value if isinstance(value, list) else [value])
        for path, value in wanted.items()
    )
    return next((problem for problem in problems if problem), None)


def _path_problem(path: str, values: list[Any]) -> str | None:
    if len(path) > MAX_PATH_LENGTH or "\0" in path:
        return f"must have paths of at most {MAX_PATH_LENGTH} characters."
    sound = all(isinstance(v, SCALARS) and "\0" not in str(v) for v in values)
    if not 1 <= len(values) <= MAX_VALUES or not sound:
        return f"must have, at {path}, a text, a number, true, false or null, or 1 to {MAX_VALUES} of them."
    return problem_in(values)


class MetadataHolds(Func):
    """True where the metadata has, at `keys`, one of `values`: texts, numbers, true, false, null."""

    output_field = BooleanField()

    def __init__(self, keys: Sequence[str], values: Sequence[Any]) -> None:
        super().__init__(F("metadata"))
        self.keys = tuple(keys)
        literals = [one for one in values if one is None or isinstance(one, bool)]
        self.literals = [LITERALS[one] for one in literals]
        self.texts = [folded(one) for one in values if isinstance(one, str)]
        self.numbers = [
            one
            for one in values
            if isinstance(one, int | float) and not isinstance(one, bool)
        ]

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> Any:  # type: ignore[override]
        column, _params = compiler.compile(self.source_expressions[0])  # it has none
        if len(self.keys) > MAX_LEVELS:
            return "1 = 0", []
        if connection.vendor == "sqlite":
            return self._sqlite(column, connection)
        return self._postgres(column, connection)

    def _sqlite(self, column: str, connection: Any) -> Sql:
        """Step from key to key by json_each: SQLite's own paths cannot name all keys, and each version others."""
        tables, conditions = [f"json_each({column}) AS k0"], []
        params: list[Any] = []
        for number, key in enumerate(self.keys):
            if number:
                before = f"k{number - 1}"
                tables.append(
                    f"json_each(CASE WHEN {before}.type IN ('object', 'array') THEN {before}.value END) AS k{number}"
                )
            # An object's keys are texts, a list's are numbers, and SQLite never takes one for the other.
            names = [key, int(key)] if PLACE.fullmatch(key) else [key]
            is_key, key_params = _any_of(_among(f"k{number}.key", names))
            conditions.append(is_key)
            params += key_params
        last = f"k{len(self.keys) - 1}"
        here, here_params = self._fits_sqlite(last, connection)
        item, item_params = self._fits_sqlite("item", connection)
        conditions.append(
            f"({here} OR EXISTS (SELECT 1 FROM json_each(CASE WHEN {last}.type = 'array' THEN {last}.value END)"  # noqa: S608
            f" AS item WHERE {item}))"
        )
        return (
            f"EXISTS (SELECT 1 FROM {' CROSS JOIN '.join(tables)} WHERE {' AND '.join(conditions)})",  # noqa: S608
            [*params, *here_params, *item_params],
        )

    def _fits_sqlite(self, row: str, connection: Any) -> Sql:
        text, _ = fold_sql(connection, f"{row}.atom", [])
        return _any_of(
            _among(f"{row}.type", self.literals),
            _among(f"{row}.type = 'text' AND {text}", self.texts),
            _among(f"{row}.type IN ('integer', 'real') AND {row}.atom", self.numbers),
        )

    def _postgres(self, column: str, connection: Any) -> Sql:
        conditions: list[str] = []
        params: list[Any] = []
        for number, key in enumerate(self.keys):
            if LIKE_A_PLACE.fullmatch(key) and not PLACE.fullmatch(key):
                conditions.append(f"jsonb_typeof({column} #> %s::text[]) = 'object'")
                params.append(list(self.keys[:number]))
        fits, fits_params = self._fits_postgres(connection)
        # The path '$[*]' takes a list's items, and whatever is no list as it is.
        conditions.append(
            f"EXISTS (SELECT 1 FROM jsonb_path_query({column} #> %s::text[], '$[*]') AS item(value) WHERE {fits})"  # noqa: S608
        )
        params += [list(self.keys), *fits_params]
        return f"({' AND '.join(conditions)})", params

    def _fits_postgres(self, connection: Any) -> Sql:
        text, text_params = fold_sql(connection, "item.value #>> '{}'", [])
        is_text = f"jsonb_typeof(item.value) = 'string' AND {text}"
        numbers = [orjson.dumps(one).decode() for one in self.numbers]
        return _any_of(
            _among(is_text, self.texts, params=text_params),
            _among("item.value", [*self.literals, *numbers], mark="%s::jsonb"),
        )


def _among(
    sql: str, values: Sequence[Any], *, params: Sequence[Any] = (), mark: str = "%s"
) -> Sql | None:
    """Return the condition that what `sql` ends with is one of `values`; None where there are none."""
    if not values:
        return None
    return f"{sql} IN ({', '.join([mark] * len(values))})", [*params, *values]


def _any_of(*conditions: Sql | None) -> Sql:
    given = [condition for condition in conditions if condition]
    params = [param for _, params in given for param in params]
    return "(" + " OR ".join(f"({sql})" for sql, _ in given) + ")", params
