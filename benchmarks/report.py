"""Figures to tables: on the terminal, in a JSON file, and in docs/performance.md between its markers."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures
from benchmarks.verdicts import Verdict, verdicts

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
# Title of a table, and its columns: figure, heading, how it is written.
Columns = tuple[tuple[str, str, str], ...]
SHAPES: tuple[tuple[str, Columns], ...] = (
    (
        "32 clients, short texts",
        (
            ("short_per_second", "new texts/s", ",.0f"),
            ("possible_per_second", "what the cores can give", ",.0f"),
            ("cached_per_second", "cached texts/s", ",.0f"),
            ("engine_ms", "engine, ms a text", ".2f"),
            ("web_ms", "HTTP", ".2f"),
            ("generator_ms", "load", ".2f"),
        ),
    ),
    (
        "An upstream that answers at once",
        (
            ("single_p50_ms", "one text, p50, ms", ".2f"),
            ("added_ms", "added to the stub's, ms", ".2f"),
            ("short_per_second", "texts/s, 32 clients", ",.0f"),
        ),
    ),
    (
        "One short text",
        (
            ("single_p50_ms", "idle p50, ms", ".1f"),
            ("single_p99_ms", "idle p99", ".1f"),
            ("busy_p99_ms", "p99 during bulk and a media job", ".1f"),
        ),
    ),
    (
        "Bulk",
        (
            ("bulk_tokens_per_second", "tokens/s", ",.0f"),
            ("cosine_mean", "cosine mean", ".5f"),
            ("cosine_min", "cosine min", ".5f"),
            ("overlap", "ten nearest shared", ".3f"),
            ("batch_difference", "alone vs batch", ".0e"),
            ("memory_mb", "MB after bulk", ",.0f"),
        ),
    ),
    (
        "The processor's limits, tokens/s of MiniLM's products",
        (
            ("tokens_per_second", "best of a lap", ",.0f"),
            ("torch", "torch", ",.0f"),
            ("oneDNN", "oneDNN", ",.0f"),
            ("ONNX Runtime", "ONNX Runtime", ",.0f"),
        ),
    ),
    (
        "Longer texts and larger models, tokens/s",
        (
            ("long_tokens_per_second", "MiniLM, 512 tokens", ",.0f"),
            ("base_tokens_per_second", "bge-base's shape", ",.0f"),
            ("large_tokens_per_second", "e5-large's shape", ",.0f"),
        ),
    ),
    (
        "The whole server at its defaults",
        (
            ("memory_mb", "MB after bulk", ",.0f"),
            ("web_mb", "MB of each further web process", ",.0f"),
            ("cold_start_s", "cold start to /readyz, s", ".1f"),
        ),
    ),
)
GATEWAYS = {"gateway", "before_gateway", "litellm", "direct"}
WHOLE = {"default", "more_web"}
# Whom a table is about, where that is not everybody of one model.
ROWS: dict[str, set[str]] = {
    "An upstream that answers at once": GATEWAYS,
    "The whole server at its defaults": WHOLE,
}
TITLES = {
    "fp32_limit": "fp32",
    "int8_limit": "int8",
    "default": "usual web processes",
    "more_web": "two web processes more",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run's outcome. `titles` maps contestants to how they are called."""

    titles: Mapping[str, str]
    machine: Mapping[str, str]
    conditions: str
    figures: Figures

    def save(self, path: Path) -> None:
        """Write everything that was measured."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "Report":
        """Read what `save` wrote."""
        fields: dict[str, Any] = json.loads(path.read_text())
        return cls(**fields | {"figures": Figures(fields["figures"]["values"])})

    def judged(self) -> list[Verdict]:
        """Return the aims as this run meets them."""
        return verdicts(self.figures, cores=int(self.machine["cores"]))

    def markdown(self) -> str:
        """Return the section for the docs."""
        parts = [
            self.conditions,
            _table(["machine", ""], [list(row) for row in self.machine.items()]),
            *(self._shaped(title, columns) for title, columns in SHAPES),
            "### Aims",
            _table(["", "measured", "aim", ""], list(self._verdict_rows())),
        ]
        return "\n\n".join(part for part in parts if part)

    def _shaped(self, title: str, columns: Columns) -> str:
        names = [name for name in self._names(title) if self._has(name, columns)]
        columns = tuple(
            one
            for one in columns
            if any(self.figures.of(name, one[0]) for name in names)
        )
        if not columns:
            return ""
        titles = TITLES | {**self.titles}
        rows = [
            [
                titles[name],
                *(self._cell(name, figure, form) for figure, _, form in columns),
            ]
            for name in names
        ]
        headings = ["", *(heading for _, heading, _ in columns)]
        return f"### {title}\n\n{_table(headings, rows)}"

    def _names(self, title: str) -> list[str]:
        known = [
            name for name in {**TITLES, **self.titles} if name in self.figures.values
        ]
        if rows := ROWS.get(title):
            return [name for name in known if name in rows]
        return [name for name in known if name not in GATEWAYS | WHOLE]

    def _has(self, name: str, columns: Columns) -> bool:
        return any(self.figures.of(name, figure) for figure, _, _ in columns)

    def _cell(self, name: str, figure: str, form: str) -> str:
        value = self.figures.median(name, figure)
        return "" if value is None else format(value, form)

    def _verdict_rows(self) -> Iterator[list[str]]:
        for verdict in self.judged():
            if verdict.value is None:
                continue
            met = {True: "met", False: "**missed**", None: ""}[verdict.met]
            value = f"{verdict.value:.4g}"
            yield [f"{verdict.table}: {verdict.aim}", value, verdict.limit_text, met]


def publish(
    report: Report, page: Path, plots: Mapping[str, Callable[[Report], str]]
) -> None:
    """Put the report between the page's markers and the plots beside it. Raises ValueError without the markers."""
    text = page.read_text()
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} lacks {BEGIN} and {END}")
    images = []
    for name, draw in plots.items():
        if svg := draw(report):
            (page.parent / name).write_text(svg)
            images.append(f"![{Path(name).stem}]({name})")
    section = "\n\n".join([BEGIN, *images, report.markdown(), END])
    page.write_text(head + section + tail)


def _table(headings: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table whose columns line up."""
    widths = [
        max(len(row[column]) for row in [headings, *rows])
        for column in range(len(headings))
    ]
    lines = [headings, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        )
        + " |"
        for line in lines
    )
