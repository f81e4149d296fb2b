"""How the console writes figures."""

from decimal import Decimal

NONE = "-"


def count(value: int | None) -> str:
    """Write 12,345; above a million 1.23 M."""
    if value is None:
        return NONE
    return f"{value / 1e6:,.2f} M" if abs(value) >= 10_000_000 else f"{value:,}"


def share(value: float | None) -> str:
    """Write 0.123 as 12.3 %."""
    return NONE if value is None else f"{value:.1%}".replace("%", " %")


def milliseconds(value: float | None) -> str:
    """Write a time of milliseconds with three digits, from a second on in seconds."""
    if value is None:
        return NONE
    return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.3g} ms"


def dollars(value: Decimal) -> str:
    """Write US dollars: cents, or what is less with two digits."""
    if value == 0 or value >= 1:
        return f"${value:,.2f}"
    return f"${value:.2g}" if value >= Decimal("0.0001") else f"${value:.1e}"
