"""The figures behind `GET /embeddings/metrics`: what Prometheus counts, over all processes, as plain numbers."""

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.samples import Sample

from embeddings.services.errors import Busy

COUNTERS = (
    "embedding_requests_total",
    "embedding_prompt_tokens_total",
    "embedding_provider_failures_total",
    "embedding_fallbacks_total",
    "embedding_cache_lookups_total",
    "embedding_cache_store_failures_total",
    "embedding_space_drifts_total",
    "embedding_space_check_failures_total",
    "embedding_pool_answers_total",
    "embedding_pool_failures_total",
)
LATENCY = "embedding_request_seconds"
ACTIVE = "embedding_active_requests"
IN_FLIGHT = "embedding_pool_in_flight"
RETRY_SECONDS = 5

Buckets = list[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Seconds, estimated within the histogram's buckets."""

    provider: str
    model: str
    count: int
    mean_seconds: float
    p50: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Counters by name, each a list of labels with `value`; latencies by provider and model."""

    active_requests: int
    counters: dict[str, list[dict[str, str | float]]]
    latencies: list[Latency]


def figures() -> Figures:
    """Read the metrics of all processes."""
    samples = list(_samples())
    return Figures(
        active_requests=round(
            sum(sample.value for sample in samples if sample.name == ACTIVE)
        ),
        counters={
            name: [_labelled(sample) for sample in samples if sample.name == name]
            for name in COUNTERS
        },
        latencies=_latencies(samples),
    )


def active_requests() -> int:
    """Return how many requests all processes serve now."""
    total: float = sum(sample.value for sample in _live_samples(ACTIVE))
    return round(total)


def calls_in_flight() -> dict[tuple[str, str], int]:
    """Return how many calls all processes make now, by pool and member."""
    return {
        (sample.labels["pool"], sample.labels["member"]): round(sample.value)
        for sample in _live_samples(IN_FLIGHT)
    }


def _live_samples(name: str) -> Iterator[Sample]:
    """Yield a gauge that is summed up over the processes that live."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is None:
        merged = REGISTRY.collect()
    else:
        files = [str(file) for file in Path(folder).glob("gauge_livesum_*.db")]
        merged = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    for metric in merged:
        yield from (sample for sample in metric.samples if sample.name == name)


def percentile(buckets: Buckets, percent: float) -> float:
    """Return the value below which `percent` of the observations lie.

    `buckets`: (upper bound, cumulative count) in rising order, the last bound infinite. Linear within a bucket, as
    Prometheus' histogram_quantile; in the last one its lower bound.
    """
    rank = buckets[-1][1] * percent / 100
    for (lower, below), (upper, count) in pairwise([(0.0, 0.0), *buckets]):
        if count >= rank and count > below:
            return (
                lower
                if upper == float("inf")
                else lower + (upper - lower) * (rank - below) / (count - below)
            )
    return 0.0


def collected() -> CollectorRegistry:
    """Return the metrics of all processes. Raises Busy where their files are gone."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    try:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    except ValueError as error:  # it was given no folder
        raise Busy(
            "The files of the metrics are gone with DATA_DIR; put it back, or restart the server.",
            retry_after_seconds=RETRY_SECONDS,
        ) from error
    return registry


def _samples() -> Iterator[Sample]:
    for metric in collected().collect():
        if metric.name.startswith("embedding_"):
            yield from metric.samples


def _labelled(sample: Sample) -> dict[str, str | float]:
    return {**sample.labels, "value": sample.value}


def _latencies(samples: list[Sample]) -> list[Latency]:
    buckets: dict[tuple[str, str], Buckets] = defaultdict(list)
    sums: dict[tuple[str, str], float] = {}
    for sample in samples:
        key = (sample.labels.get("provider", ""), sample.labels.get("model", ""))
        if sample.name == f"{LATENCY}_bucket":
            buckets[key].append((float(sample.labels["le"]), sample.value))
        elif sample.name == f"{LATENCY}_sum":
            sums[key] = sample.value
    return [
        _latency(key, sorted(rows), sums.get(key, 0.0))
        for key, rows in sorted(buckets.items())
    ]


def _latency(key: tuple[str, str], buckets: Buckets, total_seconds: float) -> Latency:
    count = int(buckets[-1][1])
    return Latency(
        provider=key[0],
        model=key[1],
        count=count,
        mean_seconds=round(total_seconds / count, 6) if count else 0.0,
        **{f"p{p}": round(percentile(buckets, p), 6) for p in (50, 90, 95, 99)},
    )
