"""Tables as CSV, for spreadsheets."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a head line and one line a row, as RFC 4180 has it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns)
    writer.writeheader()
    writer.writerows(
        {name: _harmless(value) for name, value in row.items()} for row in rows
    )
    return text.getvalue()


def _harmless(value: Any) -> Any:
    """Return a cell that every spreadsheet reads as it is meant: no exponents, and no formulas in people's names."""
    if isinstance(value, float):
        return f"{value:.10f}".rstrip("0").rstrip(".")
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value
