"""Services that the console knows: data that holds together, and stands in the documentation."""

from pathlib import Path

import pytest

from providers.addresses import PROVIDER_NAME, origin_of
from providers.presets import presets, unreplaced
from providers.registry import registry, wires
from providers.remote import RemoteProvider

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"


@pytest.mark.parametrize("preset", presets().values(), ids=lambda one: one.name)
def test_preset_is_a_row_that_can_be_added(preset):
    plugin = registry().plugin(preset.kind)
    assert plugin is not None
    assert issubclass(plugin, RemoteProvider)
    assert preset.wire in [word for words in wires(plugin).values() for word in words]
    assert PROVIDER_NAME.fullmatch(preset.name)
    assert preset.name not in registry().installed()
    assert origin_of(preset.base_url.lower()) is not None
    assert (preset.batch_size or 1) <= plugin.most_in_a_batch()
    assert unreplaced(preset.base_url) == (preset.placeholder or None)


@pytest.mark.parametrize("preset", presets().values(), ids=lambda one: one.name)
def test_preset_stands_in_the_documentation(preset):
    rows = PAGE.read_text(encoding="utf-8").splitlines()
    (row,) = (line for line in rows if line.startswith(f"| {preset.title} | `http"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        preset.title,
        f"`{preset.base_url}`",
        f"`{preset.kind}`, `{preset.wire}`",
        str(preset.batch_size or ""),
        preset.note,
    ]
