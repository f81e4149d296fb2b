"""What searches took, as a table in docs/media-search.md."""

import time
from pathlib import Path

from benchmarks.machine import describe_machine

PAGE = Path(__file__).parents[1] / "docs" / "media-search.md"
BEGIN, END = "<!-- search: begin -->\n", "<!-- search: end -->"
Figures = dict[str, float]


def publish(results: dict[str, dict[str, Figures]]) -> None:
    """Write the table between its marks."""
    head, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}")


def table(results: dict[str, dict[str, Figures]]) -> str:
    machine = describe_machine()
    lines = [
        f"Measured on {time.strftime('%Y-%m-%d')}: {machine['processor']}, {machine['cores']} cores.",
        "",
        "| chunks | vectors | store | search in | p50 ms | p99 ms | CPU ms | recall@10 | of numpy's scan: p50, CPU |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for key, figures in sorted(results.items(), key=lambda one: int(one[0].split()[0])):
        count, kind, store = key.split()
        scan = figures["numpy"]
        for name, own in figures.items():
            if "p50" in own:
                ratios = f"{own['p50'] / scan['one core']:.2f}, {own['CPU'] / scan['CPU']:.2f}"
                lines.append(
                    f"| {int(count):,} | {kind} | {store} | {name} | {own['p50']:.1f} | {own['p99']:.1f}"
                    f" | {own['CPU']:.1f} | {own['recall']:.4f} | {ratios} |"
                )
        notes.append(f"- {int(count):,} {kind}, {store}: {noted(figures)}")
    return "\n".join([*lines, "", *notes, ""])


def noted(figures: dict[str, Figures]) -> str:
    """Return in a sentence what searches do not show."""
    load, first, change = (
        figures[name] for name in ("load", "first search", "100 chunks")
    )
    scan = figures["numpy"]
    parts = [
        f"numpy's scan {scan['one core']:.0f} ms on one core ({scan['CPU']:.0f} of CPU), {scan['all cores']:.0f} on all"
    ]
    if "copied" in load:
        parts += [
            f"COPY {load['copied']:.0f} s",
            f"index built in {load['indexed']:.0f} s",
            f"{load['index MB']:,.0f} MB of index and {load['table MB']:,.0f} MB of vectors",
        ]
    else:
        parts += [
            f"first search {first['ms'] / 1000:.1f} s",
            f"the copy {first['copy MB']:,.0f} MB",
        ]
    parts.append(
        f"100 chunks replaced in {change['replaced']:.0f} ms and found {change['next search']:.0f} ms later"
    )
    return "; ".join(parts) + "."
