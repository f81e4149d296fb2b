"""What is counted of providers. Labels come from registries, never from users."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator

from prometheus_client import Counter, Gauge, Histogram

from providers.stages import spent
from providers.tracing import step

# Upper bounds of histograms of time.
TIME_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # fmt: skip
BREAKER_STATES = {"closed": 0, "half_open": 1, "open": 2}

breaker_state = Gauge(
    "embedding_breaker_state",
    "Circuit breaker: 0 closed, 1 half open, 2 open.",
    ["provider"],
    multiprocess_mode="mostrecent",
)
pool_in_flight = Gauge(
    "embedding_pool_in_flight",
    "Calls under way at each member of a pool.",
    ["pool", "member"],
    multiprocess_mode="livesum",
)
pool_admitted = Gauge(
    "embedding_pool_admitted",
    "Members of pools: 1 if its canary was answered with the pool's vectors.",
    ["pool", "member", "model"],
    multiprocess_mode="mostrecent",
)
pool_answers = Counter(
    "embedding_pool_answers",
    "Calls that a member of a pool answered.",
    ["pool", "member"],
)
pool_failures = Counter(
    "embedding_pool_failures",
    "Calls that a member of a pool did not answer; another was asked where there was one.",
    ["pool", "member", "reason"],
)
stage_seconds = Histogram(
    "embedding_stage_seconds",
    "Time by stage: tokenise, queue, infer, upstream.",
    ["provider", "stage"],
    buckets=TIME_BUCKETS,
)
engine_queued_tokens = Gauge(
    "embedding_engine_queued_tokens",
    "Tokens of texts that wait for the local engine.",
    ["model"],
    multiprocess_mode="livesum",
)
engine_batch_fill = Gauge(
    "embedding_engine_batch_fill",
    "Tokens of the last batch of the local engine, as a share of the largest.",
    ["model"],
    multiprocess_mode="livemostrecent",
)
engine_wait_seconds = Gauge(
    "embedding_engine_wait_seconds",
    "How long the first text of the last batch waited in the local engine's queue.",
    ["model"],
    multiprocess_mode="livemostrecent",
)


@contextlib.contextmanager
def timed(provider: str, stage: str) -> Iterator[None]:
    """Observe how long the block took, however it ended."""
    started = time.perf_counter()
    try:
        with step(stage):
            yield
    finally:
        took = time.perf_counter() - started
        _observe(provider, stage)(took)
        spent(stage, took)


def observed(stage: str, seconds: float) -> None:
    """Note a stage of the local engine, which serves several providers."""
    _observe("local", stage)(seconds)


def batches_of(
    model: str,
) -> tuple[Callable[[float], None], Callable[[float, float], None]]:
    """Return what notes the tokens in the queue of a loaded model, and its batches: fill, and wait in seconds."""
    queued, fill, waited = (
        gauge.labels(model).set
        for gauge in (engine_queued_tokens, engine_batch_fill, engine_wait_seconds)
    )

    def note(share: float, wait_seconds: float) -> None:
        fill(share)
        waited(wait_seconds)

    return queued, note


@functools.cache
def _observe(provider: str, stage: str) -> Callable[[float], None]:
    """Look a label up once: that takes longer than to count."""
    return stage_seconds.labels(provider, stage).observe
