"""What was counted, as charts show it: the last hour, day, week or month in steps of equal length."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db.models import F, Max, QuerySet, Sum, Value

from embeddings.models import HOUR, MINUTE, LatencyCount, Level, Traffic
from embeddings.services.monitoring import percentile
from embeddings.services.usage.ledger import usage
from providers.metrics import TIME_BUCKETS

PERCENTILES = (50, 95, 99)
BOUNDS = (*TIME_BUCKETS, float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A time that ends now. `seconds` long, shown in steps of `step` seconds, from rows of `span` seconds."""

    name: str
    seconds: int
    step: int
    span: int

    def steps(self, now: int) -> list[int]:
        """Return the first second of each step, since the epoch; the last one is under way."""
        last = now // self.step * self.step
        return list(range(last - self.seconds + self.step, last + 1, self.step))


PERIODS = {
    period.name: period
    for period in (
        Period(name="hour", seconds=3600, step=MINUTE, span=MINUTE),
        Period(name="day", seconds=86400, step=15 * MINUTE, span=MINUTE),
        Period(name="week", seconds=7 * 86400, step=3 * HOUR, span=HOUR),
        Period(name="month", seconds=30 * 86400, step=12 * HOUR, span=HOUR),
    )
}


@dataclass(slots=True, kw_only=True)
class Figures:
    """Sums of requests. `answered`: with vectors. `fallbacks`: of those, by another model than was asked for."""

    answered: int = 0
    errors: int = 0
    fallbacks: int = 0
    texts: int = 0
    tokens: int = 0
    cache_hits: int = 0
    cost: Decimal = Decimal(0)

    @property
    def requests(self) -> int:
        return self.answered + self.errors

    @property
    def error_rate(self) -> float | None:
        """Return the share of requests that failed; None without any."""
        return self.errors / self.requests if self.requests else None

    @property
    def hit_rate(self) -> float | None:
        """Return the share of texts that the cache answered; None without any."""
        return self.cache_hits / self.texts if self.texts else None

    def add(self, row: Traffic) -> None:
        if row.outcome:
            self.errors += row.requests
            return
        if not row.provider:
            return  # answered, but not with vectors
        self.answered += row.requests
        if row.asked != f"{row.provider}:{row.model}":
            self.fallbacks += row.requests
        self.texts += row.texts
        self.tokens += row.tokens
        self.cache_hits += row.cache_hits
        self.cost += row.cost


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficHistory:
    """`steps`: see Period. Of each step `figures` and `outcomes`, the errors by status and code; `total` of all.

    `models`: (asked for, answered by) -> the sums of the whole time.
    """

    steps: Sequence[int]
    figures: Sequence[Figures]
    outcomes: Mapping[str, Sequence[int]]
    total: Figures
    models: Mapping[tuple[str, str], Figures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Milliseconds by percentile (50, 95, 99), of each step and of all; None where nothing was answered."""

    steps: Mapping[int, Sequence[float | None]]
    total: Mapping[int, float | None]


@dataclass(slots=True)
class _Sums:
    figures: Figures = field(default_factory=Figures)
    outcomes: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def traffic_history(
    period: Period, *, now: int, provider: str | None = None
) -> TrafficHistory:
    """Return what was asked and answered, of one provider if it is named."""
    usage().flush()  # so that a lone process shows the last request
    steps = period.steps(now)
    rows = _in(Traffic.objects.all(), period, steps)
    if provider is not None:
        rows = rows.filter(provider=provider)
    keys = ("step", "provider", "model", "asked", "outcome")
    sums = {name: Sum(name) for name in ("requests", "texts", "tokens", "cache_hits", "cost")}  # fmt: skip
    by_step: dict[int, _Sums] = defaultdict(_Sums)
    by_model: dict[tuple[str, str], Figures] = defaultdict(Figures)
    total = Figures()
    for found in rows.values(*keys).annotate(
        **{f"sum_{n}": s for n, s in sums.items()}
    ):
        step = by_step[found["step"]]
        row = Traffic(
            **{name: found[name] for name in keys[1:]},
            **{name: found[f"sum_{name}"] for name in sums},
        )
        answered = f"{row.provider}:{row.model}" if row.provider else ""
        for figures in (step.figures, total, by_model[row.asked, answered]):
            figures.add(row)
        if row.outcome:
            step.outcomes[row.outcome] += row.requests
    outcomes = sorted({name for sums_ in by_step.values() for name in sums_.outcomes})
    return TrafficHistory(
        steps=steps,
        figures=[by_step[step].figures for step in steps],
        outcomes={
            name: [by_step[step].outcomes.get(name, 0) for step in steps]
            for name in outcomes
        },
        total=total,
        models={names: one for names, one in by_model.items() if one.requests},
    )


def times_history(
    period: Period, *, now: int, provider: str | None = None
) -> dict[str, Times]:
    """Return how long requests took by stage (`total` first), those of one provider if it is named."""
    steps = period.steps(now)
    rows = _in(LatencyCount.objects.all(), period, steps)
    if provider is not None:
        rows = rows.filter(provider=provider)
    counts: dict[str, dict[int, dict[int, int]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    grouped = rows.values("step", "stage", "bucket").annotate(sum=Sum("requests"))
    for row in grouped:
        counts[row["stage"]][row["step"]][row["bucket"]] = row["sum"]
    order = sorted(counts, key=lambda stage: (stage != "total", stage))
    return {stage: _times(counts[stage], steps) for stage in order}


def level_history(
    name: str, period: Period, *, now: int
) -> tuple[Sequence[int], list[float | None]]:
    """Return the steps, and the highest sample of a level in each; None where there was none."""
    steps = period.steps(now)
    rows = _in(Level.objects.filter(name=name), period, steps)
    found = dict(rows.values_list("step").annotate(highest=Max("highest")))
    return steps, [found.get(step) for step in steps]


def _in(rows: QuerySet[Any], period: Period, steps: Sequence[int]) -> QuerySet[Any]:
    """Return the rows of a period, with the step that each is in."""
    found: QuerySet[Any] = rows.filter(span=period.span, start__gte=steps[0]).annotate(
        step=F("start") - F("start") % Value(period.step)
    )
    return found


def _times(by_step: Mapping[int, Mapping[int, int]], steps: Iterable[int]) -> Times:
    every: dict[int, int] = defaultdict(int)
    for buckets in by_step.values():
        for bucket, count in buckets.items():
            every[bucket] += count
    return Times(
        steps={
            percent: [_milliseconds(by_step.get(step, {}), percent) for step in steps]
            for percent in PERCENTILES
        },
        total={percent: _milliseconds(every, percent) for percent in PERCENTILES},
    )


def _milliseconds(buckets: Mapping[int, int], percent: float) -> float | None:
    if not buckets:
        return None
    total, cumulative = 0, []
    for place, bound in enumerate(BOUNDS):
        total += buckets.get(place, 0)
        cumulative.append((bound, float(total)))
    return round(1000 * percentile(cumulative, percent), 2)
