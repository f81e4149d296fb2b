"""What is counted. Labels come from registries, never from users."""

import functools
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from embeddings.services.types import Target
from providers.base import Provider
from providers.metrics import TIME_BUCKETS
from providers.registry import registry

Add = Callable[[float], None]

provider_failures = Counter(
    "embedding_provider_failures",
    "Requests a provider could not serve.",
    ["provider", "model", "reason"],
)
fallbacks = Counter(
    "embedding_fallbacks",
    "Requests served by a fallback.",
    ["from_provider", "to_provider"],
)
requests = Counter(
    "embedding_requests", "Requests answered with vectors.", ["provider", "model"]
)
prompt_tokens = Counter(
    "embedding_prompt_tokens", "Tokens of the requests answered.", ["provider", "model"]
)
api_requests = Counter(
    "embedding_api_requests",
    "Requests to the API that have ended, by route and status.",
    ["endpoint", "status"],
)
cache_lookups = Counter(
    "embedding_cache_lookups", "Texts looked up in the cache.", ["result"]
)
cache_store_failures = Counter(
    "embedding_cache_store_failures",
    "Times the store of cached vectors could not be asked.",
    ["store", "operation"],
)
space_drift = Gauge(
    "embedding_space_drift",
    "Remote spaces: 1 if the model gives other vectors than those of its space.",
    ["provider", "model"],
    multiprocess_mode="mostrecent",
)
space_drifts = Counter(
    "embedding_space_drifts",
    "Times a remote model was found to give other vectors.",
    ["provider", "model"],
)
space_check_failures = Counter(
    "embedding_space_check_failures",
    "Checks of remote spaces that the provider did not answer.",
    ["provider", "model"],
)
request_seconds = Histogram(
    "embedding_request_seconds",
    "Time from routing to vectors.",
    ["provider", "model"],
    buckets=TIME_BUCKETS,
)
active_requests = Gauge(
    "embedding_active_requests", "Requests being served.", multiprocess_mode="livesum"
)


def model_label(target: Target) -> str:
    """Return the model's name if a provider or the operator listed it; names that are passed on come from users."""
    return listed_name(target.provider, target.model.name)


def listed_name(provider: Provider, model: str) -> str:
    """Return the same for a model's name at `provider`."""
    return model if registry().listed(provider, model) else "other"


def answered(provider: str, model: str, *, tokens: int, seconds: float) -> None:
    """Count one request that this model answered."""
    count, count_tokens, observe = _answers_of(provider, model)
    count(1)
    count_tokens(tokens)
    observe(seconds)


def ended(endpoint: str, status: int) -> None:
    """Count one request to the API, however it ended."""
    _endings(endpoint, status)(1)


def looked_up(*, hits: int, misses: int) -> None:
    """Count texts that the cache held, and those it did not."""
    if hits:
        _lookups("hit")(hits)
    if misses:
        _lookups("miss")(misses)


# A label is looked up once: that takes longer than to count.
@functools.cache
def _answers_of(provider: str, model: str) -> tuple[Add, Add, Add]:
    labels = (provider, model)
    return (
        requests.labels(*labels).inc,
        prompt_tokens.labels(*labels).inc,
        request_seconds.labels(*labels).observe,
    )


@functools.cache
def _endings(endpoint: str, status: int) -> Add:
    return api_requests.labels(endpoint, status).inc


@functools.cache
def _lookups(result: str) -> Add:
    return cache_lookups.labels(result).inc
