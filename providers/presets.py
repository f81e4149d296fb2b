"""Services that differ only in address and key: what a new upstream of one has for its kind, wire and address."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One service. `placeholder`: what in the address is to be replaced by one's own; `batch_size` where it is known.

    `note`: what else has to be known of it.
    """

    name: str
    title: str
    kind: str
    wire: str
    base_url: str
    note: str
    placeholder: str = ""
    batch_size: int | None = None


@cache
def presets() -> dict[str, Preset]:
    """Return all of them by name."""
    source = Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
    return {one["name"]: Preset(**one) for one in json.loads(source)}


def unreplaced(address: str) -> str | None:
    """Return what in an address still stands where one's own belongs, or None."""
    named = (preset.placeholder for preset in presets().values())
    return next((word for word in named if word and word in address), None)
