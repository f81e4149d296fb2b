"""What was measured: by contestant and figure, one value a round."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Figures:
    """`values[contestant][figure]` is a list, one value for each round it was measured in."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, contestant: str, **figures: float) -> None:
        """Note this round's figures."""
        own = self.values.setdefault(contestant, {})
        for figure, value in figures.items():
            own.setdefault(figure, []).append(value)

    def of(self, contestant: str, figure: str) -> list[float]:
        """Return a figure's values, none if it was not measured."""
        return self.values.get(contestant, {}).get(figure, [])

    def median(self, contestant: str, figure: str) -> float | None:
        """Return the median over the rounds."""
        values = self.of(contestant, figure)
        return statistics.median(values) if values else None

    def ratio(self, over: tuple[str, str], under: tuple[str, str]) -> float | None:
        """Return the median of the rounds' ratios: what else the machine did in a round cancels out."""
        pairs = zip(self.of(*over), self.of(*under), strict=False)
        ratios = [above / below for above, below in pairs if below]
        return statistics.median(ratios) if ratios else None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of them do not exceed: of few values, the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
