"""Text compared without case and in one normal form, by the same rule in Python, SQLite and PostgreSQL.

The rule is Unicode's caseless match of canonical equivalents (section 3.13 of the standard, D145). SQLite calls
Python's function; for PostgreSQL, what its lower() does otherwise is found by asking it once, and put right.
"""

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any
from unicodedata import normalize

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CharField, Func, TextField
from django.db.models.lookups import Contains, Exact
from django.http import HttpRequest

Sql = tuple[str, Sequence[Any]]

# Whose lower() knows all letters; which of them there are depends on how PostgreSQL was built, and on the machine.
COLLATIONS = ["und-x-icu", "pg_c_utf8", "C.utf8", "C.UTF-8", "en_US.utf8"]
BEST_COLLATION = """
    SELECT quote_ident(collname) FROM pg_collation
    WHERE collname = ANY(%s) AND collnamespace = 'pg_catalog'::regnamespace
    ORDER BY array_position(%s, collname::text) LIMIT 1
"""


def folded(text: str) -> str:
    """Return what is equal for all spellings of `text` in capitals or small letters, composed or not."""
    if text.isascii():
        return text.lower()
    return normalize("NFC", normalize("NFD", text).casefold())


def fold_sql(connection: BaseDatabaseWrapper, sql: str, params: Sequence[Any]) -> Sql:
    """Return the SQL that does to the text of `sql` what `folded` does."""
    if connection.vendor == "sqlite":
        # As bytes: JSON may hold half of a surrogate pair, which is no text for Python.
        return f"unicode_fold(CAST({sql} AS BLOB))", params
    whole, whole_params = _postgres_fold(connection.alias, sql, params)
    # Nearly all text is ASCII: as many bytes as characters. That of the rest takes a hundred times as long.
    is_ascii = f"octet_length({sql}) = char_length({sql})"
    quick = f"lower({sql} COLLATE {_postgres_rule(connection.alias)[0]})"
    folded_sql = f"CASE WHEN {is_ascii} THEN {quick} ELSE {whole} END"
    return folded_sql, [*params, *params, *params, *whole_params]


def _postgres_fold(alias: str, sql: str, params: Sequence[Any]) -> Sql:
    collation, letters, words = _postgres_rule(alias)
    sql = f"translate(lower(normalize({sql}, NFD) COLLATE {collation}), %s, %s)"
    params = [*params, "".join(letters), "".join(letters.values())]
    for letter, word in words.items():
        sql, params = f"replace({sql}, %s, %s)", [*params, letter, word]
    return f"normalize({sql}, NFC)", params


def teach_sqlite(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Give a new connection the function that `fold_sql` calls."""
    if connection.vendor == "sqlite":
        connection.connection.create_function(
            "unicode_fold", 1, _fold_bytes, deterministic=True
        )


class Folded(Func):
    """A column's text as `folded` makes it."""

    arity = 1
    output_field = TextField()

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> Any:  # type: ignore[override]
        return fold_sql(connection, *compiler.compile(self.source_expressions[0]))


class _ByFolding:
    """Compare both sides as `folded` makes them, with Django's operator of the name `operator`."""

    operator: str

    def __init__(self, lhs: Any, rhs: str) -> None:
        super().__init__(Folded(lhs), folded(rhs))  # type: ignore[call-arg]

    def get_rhs_op(self, connection: Any, rhs: str) -> str:
        return str(connection.operators[self.operator] % rhs)


class FoldedExact(_ByFolding, Exact):
    """`name__folded=text`: equal but for case and normal form."""

    lookup_name = "folded"
    operator = "exact"


class FoldedContains(_ByFolding, Contains):
    """`name__folded_contains=text`: a part of it, but for case and normal form."""

    lookup_name = "folded_contains"
    operator = "contains"


for _field in (CharField, TextField):
    for _lookup in (FoldedExact, FoldedContains):
        _field.register_lookup(_lookup)


class UnicodeSearch:
    """Put before a console page's class: its search box finds any spelling by case and normal form."""

    def get_search_fields(self, request: HttpRequest) -> Sequence[str]:
        names = super().get_search_fields(request)  # type: ignore[misc]
        return [
            name if name[:1] in ("=", "^", "@") else f"{name}__folded_contains"
            for name in names
        ]


def _fold_bytes(value: bytes | None) -> str | None:
    return None if value is None else folded(value.decode(errors="replace"))


@cache
def _postgres_rule(alias: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return the collation for lower(), and the letters and the words that it makes of letters otherwise."""
    cased = list(_cased_letters())
    with connections[alias].cursor() as cursor:
        cursor.execute(BEST_COLLATION, [COLLATIONS, COLLATIONS])
        row = cursor.fetchone()
        collation = row[0] if row else '"C"'
        # Apart: a capital sigma at the end of a word has a small form of its own.
        cursor.execute(f"SELECT lower(%s::text COLLATE {collation})", [" ".join(cased)])
        lowered = cursor.fetchone()[0].split(" ")
    letters: dict[str, str] = {}
    words: dict[str, str] = {}
    for letter, lower in zip(cased, lowered, strict=True):
        wanted = letter.casefold()
        if lower != wanted:
            (letters if len(wanted) == 1 else words)[lower] = wanted
    return collation, letters, words


def _cased_letters() -> Iterator[str]:
    """Yield the letters that case folding changes, as far as the decomposed form has them."""
    for letter in map(chr, range(sys.maxunicode + 1)):
        if letter.casefold() != letter and normalize("NFD", letter) == letter:
            yield letter
