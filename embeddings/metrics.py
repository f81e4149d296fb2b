"""What is counted. Labels come from registries, never from users."""

import contextlib
import threading
from collections.abc import Iterator

from prometheus_client import Counter, Gauge, Histogram

provider_failures = Counter(
    "embedding_provider_failures",
    "Requests a provider could not serve.",
    ["provider", "model", "reason"],
)
fallbacks = Counter(
    "embedding_fallbacks",
    "Requests served by a stand-in.",
    ["from_provider", "to_provider"],
)
requests = Counter(
    "embedding_requests", "Requests answered with vectors.", ["provider", "model"]
)
prompt_tokens = Counter(
    "embedding_prompt_tokens", "Tokens of the requests answered.", ["provider", "model"]
)
request_seconds = Histogram(
    "embedding_request_seconds",
    "Time from routing to vectors.",
    ["provider", "model"],
    buckets=(
        0.001,
        0.0025,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1,
        2.5,
        5,
        10,
        30,
        60,
    ),
)
active_gauge = Gauge(
    "embedding_active_requests", "Requests being served.", multiprocess_mode="livesum"
)


class ActiveRequests:
    """Count the requests being served by this process; the gauge shows the sum over all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    @property
    def count(self) -> int:
        return self._count

    @contextlib.contextmanager
    def track(self) -> Iterator[None]:
        self._move(1)
        try:
            yield
        finally:
            self._move(-1)

    def _move(self, step: int) -> None:
        with self._lock:
            self._count += step
        active_gauge.inc(step)


active_requests = ActiveRequests()
