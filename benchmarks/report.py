"""Figures to tables: on the terminal, in a JSON file, and in docs/performance.md between its markers."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Figures
from benchmarks.verdicts import Verdict, verdicts

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
# Figure, heading, how it is written.
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("bulk_tokens_per_second", "bulk tokens/s", ",.0f"),
    ("short_requests_per_second", "short texts/s, 32 clients", ",.0f"),
    ("single_p50_ms", "one text p50 ms", ".1f"),
    ("single_p99_ms", "p99 ms", ".1f"),
    ("mix_p99_ms", "p99 ms during 2048 texts", ",.0f"),
    ("hot_requests_per_second", "cached/s", ",.0f"),
    ("big_cached_ms", "2048 cached ms", ",.0f"),
    ("memory_mb", "MB after bulk", ",.0f"),
    ("cold_start_s", "cold start s", ".1f"),
    ("cosine_mean", "cosine mean", ".5f"),
    ("cosine_min", "cosine min", ".5f"),
    ("overlap", "ten nearest shared", ".3f"),
    ("batch_difference", "alone vs batch", ".0e"),
    ("errors", "errors", ".0f"),
)
SUMMED = {"errors"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run's outcome. `titles` maps contestants and limits to how they are called; `soak` is (minute, MB)."""

    titles: Mapping[str, str]
    machine: Mapping[str, str]
    conditions: str
    figures: Figures
    soak: Sequence[tuple[float, float]] = field(default=())

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
        """Return the promises as this run keeps them."""
        return verdicts(self.figures)

    def markdown(self) -> str:
        """Return the section for the docs."""
        parts = [
            self.conditions,
            _table(["machine", ""], [list(row) for row in self.machine.items()]),
            _table(*self._figures_table()),
            _table(*self._limits_table()),
            _table(["promise", "measured", "limit", "met"], list(self._verdict_rows())),
        ]
        return "\n\n".join(part for part in parts if part)

    def _figures_table(self) -> tuple[list[str], list[list[str]]]:
        columns = [column for column in COLUMNS if self._anyone_has(column[0])]
        names = [name for name in self.titles if self.figures.of(name, "errors")]
        rows = [
            [
                self.titles[name],
                *(self._cell(name, figure, form) for figure, _, form in columns),
            ]
            for name in names
        ]
        return ["", *(heading for _, heading, _ in columns)], rows

    def _limits_table(self) -> tuple[list[str], list[list[str]]]:
        shown = (
            (
                "fp32_limit",
                "tokens_per_second",
                "matrix products of MiniLM in fp32, tokens/s",
                ",.0f",
            ),
            ("int8_limit", "tokens_per_second", "the same in int8, tokens/s", ",.0f"),
            (
                "exact_engine",
                "bulk_tokens_per_second",
                "engine of exact without HTTP, tokens/s",
                ",.0f",
            ),
            ("exact_engine", "single_p50_ms", "one text, ms", ".2f"),
            (
                "fast_engine",
                "bulk_tokens_per_second",
                "engine of fast without HTTP, tokens/s",
                ",.0f",
            ),
            ("fast_engine", "single_p50_ms", "one text, ms", ".2f"),
            ("exact", "serialising_ms", "serialising 2048 vectors alone, ms", ".1f"),
        )
        rows = [
            [words, self._cell(name, figure, form)]
            for name, figure, words, form in shown
            if self.figures.of(name, figure)
        ]
        return ["limits", "measured"], rows

    def _anyone_has(self, figure: str) -> bool:
        return any(self.figures.of(name, figure) for name in self.titles)

    def _cell(self, name: str, figure: str, form: str) -> str:
        values = self.figures.of(name, figure)
        if not values:
            return ""
        value = sum(values) if figure in SUMMED else self.figures.median(name, figure)
        return format(value, form)

    def _verdict_rows(self) -> Iterator[list[str]]:
        for verdict in self.judged():
            value = "not measured" if verdict.value is None else f"{verdict.value:.4g}"
            met = {True: "yes", False: "**no**", None: ""}[verdict.met]
            yield [verdict.promise, value, verdict.limit_text, met]


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
