"""What the console draws. `templates/console/chart.html` shows a chart, and beside it the same figures as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["line", "area", "bar", "scatter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line, bar or cloud of points. `tone`: a colour of console.css, `--tone-<tone>`; by its place if not given.

    `values`: a figure, or None where there is none, for each label of the chart; of a scatter (x, y) pairs, whose
    `names` are shown on touch.
    """

    name: str
    values: Sequence[Any]
    tone: str = ""
    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """`id`: unique on its page. `unit` follows every figure. `summary`: one sentence for who does not see it."""

    id: str
    title: str
    kind: Kind
    series: Sequence[Series]
    labels: Sequence[str] = ()
    unit: str = ""
    stacked: bool = False
    summary: str = ""

    @property
    def data(self) -> dict[str, Any]:
        """Return what console.js draws."""
        return {
            "kind": self.kind,
            "labels": list(self.labels),
            "unit": self.unit,
            "stacked": self.stacked,
            "series": [
                {
                    "name": one.name,
                    "values": list(one.values),
                    "names": list(one.names),
                    "tone": one.tone or str(place % 8 + 1),
                }
                for place, one in enumerate(self.series)
            ],
        }

    @property
    def table(self) -> list[tuple[str, list[Any]]]:
        """Return the same as rows: a label, and the figure of each series."""
        return [
            (label, [one.values[place] for one in self.series])
            for place, label in enumerate(self.labels)
        ]

    @property
    def is_empty(self) -> bool:
        return not any(
            value not in (None, 0) for one in self.series for value in one.values
        )
