"""What charts and the log of requests show, counted in memory on its way to the database."""

import operator
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from operator import itemgetter
from typing import Any, TypeVar

from django.db import models

from embeddings.conf import conf
from embeddings.models import HOUR, MINUTE, LatencyCount, LoggedRequest, Traffic
from embeddings.services.usage.events import Event
from embeddings.services.usage.upserts import add_up
from providers.metrics import TIME_BUCKETS

# While the database is away, further slots are summed up in one, so that memory stays bounded.
MAX_SLOTS = 5000
OTHERS = "(others)"
# Requests that one process puts into the log at once, those that failed apart: under load the first of each.
MAX_LOGGED = 250

TRAFFIC_KEYS = ("start", "span", "endpoint", "provider", "model", "asked", "outcome")
TRAFFIC_SUMS = ("requests", "texts", "tokens", "cache_hits", "cost")
LATENCY_KEYS = ("start", "span", "provider", "model", "stage", "bucket")

Value = TypeVar("Value")
_Slot = tuple[int, str, str, str, str, str]
_Bucket = tuple[int, str, str, str, int]


class TrafficCounts:
    """Events by slot, times by bucket, and the last events themselves."""

    def __init__(self) -> None:
        self._slots: dict[_Slot, list[int]] = {}
        self._buckets: dict[_Bucket, int] = {}
        self._answered: list[Event] = []
        self._failed: list[Event] = []

    def __bool__(self) -> bool:
        return bool(self._slots)

    def add(self, event: Event) -> None:
        minute = int(event.at) // MINUTE * MINUTE
        outcome = event.outcome
        slot = (minute, event.endpoint, event.provider, event.model, event.asked, outcome)  # fmt: skip
        figures = (1, event.texts, event.tokens, event.cache_hits, event.cost)
        self._add_slot(slot, figures)
        if outcome:
            _log(self._failed, event)
            return
        _log(self._answered, event)
        if event.provider:
            place = (minute, event.provider, event.model)
            self._add_bucket(
                (*place, "total", bisect_left(TIME_BUCKETS, event.seconds)), 1
            )
            for stage, seconds in event.stages.items():
                self._add_bucket((*place, stage, bisect_left(TIME_BUCKETS, seconds)), 1)

    def merge(self, older: "TrafficCounts") -> None:
        """Take back what could not be stored."""
        for slot, figures in older._slots.items():
            self._add_slot(slot, figures)
        for bucket, count in older._buckets.items():
            self._add_bucket(bucket, count)
        self._answered = [*older._answered, *self._answered][:MAX_LOGGED]
        self._failed = [*older._failed, *self._failed][:MAX_LOGGED]

    def store(self) -> None:
        """Add all to the database, in the caller's transaction. Raises DatabaseError."""
        add_up(Traffic, self._traffic(), keys=TRAFFIC_KEYS, sums=TRAFFIC_SUMS)
        add_up(LatencyCount, self._latencies(), keys=LATENCY_KEYS, sums=("requests",))
        if conf().request_log:
            log = sorted([*self._failed, *self._answered], key=lambda one: one.at)
            LoggedRequest.objects.bulk_create(map(_logged, log))

    def _add_slot(self, slot: _Slot, figures: Sequence[int]) -> None:
        sums = self._slots.get(slot)
        if sums is None and len(self._slots) >= MAX_SLOTS:
            slot = (slot[0], OTHERS, "", "", "", slot[-1])
            sums = self._slots.get(slot)
        self._slots[slot] = [*figures] if sums is None else _added(sums, figures)

    def _add_bucket(self, bucket: _Bucket, count: int) -> None:
        try:
            self._buckets[bucket] += count
        except KeyError:
            if len(self._buckets) < 4 * MAX_SLOTS:
                self._buckets[bucket] = count

    def _traffic(self) -> list[models.Model]:
        rows: list[models.Model] = []
        for (start, span, *names), figures in _by_span(self._slots, _added):
            *counts, cost = figures
            key = dict(zip(TRAFFIC_KEYS, (start, span, *names), strict=True))
            sums = dict(zip(TRAFFIC_SUMS, counts, strict=False))
            rows.append(Traffic(**key, **sums, cost=Decimal(cost).scaleb(-10)))
        return rows

    def _latencies(self) -> list[models.Model]:
        return [
            LatencyCount(**dict(zip(LATENCY_KEYS, key, strict=True)), requests=count)
            for key, count in _by_span(self._buckets, operator.add)
        ]


def _added(figures: Sequence[int], others: Sequence[int]) -> list[int]:
    return [*map(operator.add, figures, others)]


def _by_span(
    minutes: Mapping[Any, Value], add: Callable[[Value, Value], Value]
) -> list[tuple[tuple[Any, ...], Value]]:
    """Return what was counted by the minute as (start, span, …) of minutes and of hours, in one order everywhere."""
    slots: dict[tuple[Any, ...], Value] = {}
    for (minute, *names), value in minutes.items():
        slots[minute, MINUTE, *names] = value
        hour = (minute // HOUR * HOUR, HOUR, *names)
        slots[hour] = add(slots[hour], value) if hour in slots else value
    return sorted(slots.items(), key=itemgetter(0))


def _log(events: list[Event], event: Event) -> None:
    if len(events) < MAX_LOGGED:
        events.append(event)


def _logged(event: Event) -> LoggedRequest:
    caller = event.caller
    return LoggedRequest(
        at=datetime.fromtimestamp(event.at, UTC),
        request_id=event.request_id,
        endpoint=event.endpoint,
        status=event.status,
        code=event.code,
        caller=caller.id if caller else "",
        username=caller.username if caller else "",
        asked=event.asked,
        provider=event.provider,
        model=event.model,
        member=event.member[:64],
        texts=event.texts,
        tokens=event.tokens,
        cache_hits=event.cache_hits,
        milliseconds=round(event.seconds * 1000, 2),
        stages={name: round(took * 1000, 2) for name, took in event.stages.items()},
    )
