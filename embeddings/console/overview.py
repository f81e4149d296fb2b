"""The first page: how the server is doing."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from django.contrib import messages
from django.http import HttpRequest
from django.utils import timezone

from embeddings.console.breakers import BreakerActions
from embeddings.console.charts import Chart, Series
from embeddings.console.page import action
from embeddings.console.words import count, dollars, milliseconds, share
from embeddings.services.breaker_states import breaker_states
from embeddings.services.cache.cache import embedding_cache
from embeddings.services.hints import hints
from embeddings.services.monitoring import active_requests
from embeddings.services.processes import (
    QUEUED_JOBS,
    QUEUED_TOKENS,
    process_states,
)
from embeddings.services.usage.history import (
    PERIODS,
    Period,
    Times,
    TrafficHistory,
    level_history,
    times_history,
    traffic_history,
)

NO_TIMES = Times(steps={}, total={})
MOST_MODELS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A part of the page from another app: its template, who may see it, and what it shows."""

    template: str
    permission: str
    show: Callable[[], Mapping[str, Any]]


class Overview(BreakerActions):
    """`panels`: what other apps add. All but the hints takes the permission to look at usage."""

    route = ""
    title = "Overview"
    icon = "dashboard"
    parts = {"live": "console/overview_live.html"}  # noqa: RUF012
    panels: ClassVar[list[Panel]] = []

    def show(self) -> dict[str, Any]:
        period = PERIODS.get(self.request.GET.get("period", ""), PERIODS["hour"])
        user = self.request.user
        shown: dict[str, Any] = {
            "period": period.name,
            "periods": [*PERIODS],
            "hints": list(hints()),
            "panels": [
                {"template": panel.template, **panel.show()}
                for panel in self.panels
                if user.has_perm(panel.permission)
            ],
        }
        if user.has_perm("providers.view_breaker"):
            shown["breakers"] = list(breaker_states())
        if user.has_perm("embeddings.view_usagehour"):
            shown |= _traffic(period, now=int(time.time()))
            shown["processes"] = list(process_states())
        return shown

    @action("providers.change_modelentry")
    def clear_cache(self, request: HttpRequest) -> None:
        cleared = embedding_cache().clear()
        self.note("clear", "embedding cache", before={"vectors": cleared})
        messages.success(request, f"Cleared the cache of {cleared:,} vectors.")


def _traffic(period: Period, *, now: int) -> dict[str, Any]:
    history = traffic_history(period, now=now)
    times = times_history(period, now=now)
    total, all_times = history.total, times.get("total", NO_TIMES).total
    return {
        "figures": [
            ("Requests", count(total.requests), f"{active_requests()} under way"),
            ("Errors", count(total.errors), share(total.error_rate)),
            ("Tokens", count(total.tokens), f"{count(total.texts)} texts"),
            ("Time, median", milliseconds(all_times.get(50)), "half take no longer"),
            ("95 in 100", milliseconds(all_times.get(95)), "take no longer"),
            ("99 in 100", milliseconds(all_times.get(99)), "take no longer"),
            (
                "From the cache",
                share(total.hit_rate),
                f"{count(total.cache_hits)} texts",
            ),
            ("Fallbacks", count(total.fallbacks), "answered by another model"),
            ("Cost", dollars(total.cost), "estimated from list prices"),
        ],
        "charts": _charts(period, history, times, now=now),
        "answered_by": [
            {
                "asked": asked or "not known",
                "answered": answered or "nothing",
                "is_fallback": bool(answered) and asked != answered,
                "requests": count(figures.requests),
                "errors": figures.errors,
                "tokens": count(figures.tokens),
                "hit_rate": share(figures.hit_rate),
                "cost": dollars(figures.cost),
            }
            for (asked, answered), figures in sorted(
                history.models.items(), key=lambda one: -one[1].requests
            )[:MOST_MODELS]
        ],
    }


def _charts(
    period: Period,
    history: TrafficHistory,
    times: Mapping[str, Times],
    *,
    now: int,
) -> list[Chart]:
    labels = step_labels(period, history.steps)
    figures = history.figures
    total = times.get("total", NO_TIMES)
    _, tokens = level_history(QUEUED_TOKENS, period, now=now)
    _, jobs = level_history(QUEUED_JOBS, period, now=now)
    return [
        Chart(
            id="requests",
            title="Requests",
            kind="bar",
            stacked=True,
            labels=labels,
            series=[
                Series(
                    name="answered",
                    values=[one.answered for one in figures],
                    tone="good",
                ),
                Series(
                    name="failed", values=[one.errors for one in figures], tone="bad"
                ),
            ],
            summary=f"{history.total.answered} answered, {history.total.errors} failed.",
        ),
        Chart(
            id="times",
            title="Time of a request",
            kind="line",
            unit="ms",
            labels=labels,
            series=[
                Series(name=name, values=total.steps.get(percent, []))
                for percent, name in ((50, "median"), (95, "95 %"), (99, "99 %"))
            ],
            summary=f"Median {milliseconds(total.total.get(50))}.",
        ),
        Chart(
            id="stages",
            title="Where the time goes, median",
            kind="line",
            unit="ms",
            labels=labels,
            series=[
                Series(name=stage, values=one.steps[50])
                for stage, one in times.items()
                if stage != "total"
            ],
        ),
        Chart(
            id="tokens",
            title="Tokens",
            kind="area",
            labels=labels,
            series=[Series(name="tokens", values=[one.tokens for one in figures])],
            summary=f"{history.total.tokens} in all.",
        ),
        Chart(
            id="hits",
            title="Texts from the cache, and fallbacks",
            kind="line",
            labels=labels,
            unit="%",
            series=[
                Series(
                    name="from the cache",
                    values=[_percent(one.hit_rate) for one in figures],
                ),
                Series(
                    name="fallbacks",
                    values=[
                        _percent(one.fallbacks / one.answered if one.answered else None)
                        for one in figures
                    ],
                    tone="warn",
                ),
            ],
        ),
        Chart(
            id="errors",
            title="Errors by reason",
            kind="bar",
            stacked=True,
            labels=labels,
            series=[
                Series(name=name, values=values)
                for name, values in history.outcomes.items()
            ],
        ),
        Chart(
            id="queue",
            title="Waiting, at most",
            kind="line",
            labels=labels,
            series=[
                Series(name="tokens at the engine", values=tokens),
                Series(name="jobs", values=jobs),
            ],
        ),
    ]


def step_labels(period: Period, steps: Sequence[int]) -> list[str]:
    """Return when each step begins, in the reader's time zone."""
    form = "%H:%M" if period.seconds <= 86400 else "%a %d %b %H:%M"
    zone = timezone.get_current_timezone()
    return [datetime.fromtimestamp(step, zone).strftime(form) for step in steps]


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 1)
