"""The use case: texts in, vectors out, from the first target that can serve them."""

import functools
import logging
import time

import structlog

from embeddings import metrics
from embeddings.conf import conf
from embeddings.services import dimensions
from embeddings.services.cache import EmbeddingCache, cache_keys
from embeddings.services.errors import ServiceUnavailable
from embeddings.services.routing import fallback_targets, primary_target
from embeddings.services.tokenization import Prepared, prepare
from embeddings.services.types import EmbeddingRequest, EmbeddingResult, Failure, Target
from providers.base import Provider, Vectors
from providers.exceptions import ProviderError, ProviderMisconfigured
from providers.registry import registry

RETRY_AFTER_SECONDS = 5  # said with a 503 when no provider named a time itself

log = structlog.get_logger(__name__)


def embed(request: EmbeddingRequest) -> EmbeddingResult:
    """Serve `request` by its own target, else by the first stand-in that can.

    Raises ServiceError: InvalidRequest, ModelNotFound, InputTooLong, or ServiceUnavailable if every target failed.
    Raises ProviderError where the upstream rejected the request itself, which no other provider would mend.
    """
    primary = primary_target(model=request.model, provider=request.provider)
    deadline = time.monotonic() + conf().request_timeout_seconds
    failures: list[Failure] = []
    with metrics.active_requests.track():
        for target in (primary, *fallback_targets(request, primary)):
            try:
                result = _embed_at(
                    request, requested=primary, target=target, deadline=deadline
                )
            except ProviderError as error:
                if not error.falls_back:
                    raise
                failures.append(_noted(target, error))
                continue
            if target is not primary:
                metrics.fallbacks.labels(primary.provider, target.provider).inc()
            return result
    raise ServiceUnavailable(failures, retry_after_seconds=_retry_after(failures))


@functools.cache
def embedding_cache() -> EmbeddingCache:
    """Return the process-wide cache."""
    return EmbeddingCache(
        max_size=conf().cache_max_size, ttl_seconds=conf().cache_ttl_seconds
    )


def _embed_at(
    request: EmbeddingRequest, *, requested: Target, target: Target, deadline: float
) -> EmbeddingResult:
    started = time.perf_counter()
    provider = registry().get(target.provider)
    if provider is None:
        raise ProviderMisconfigured(f"The plug-in of {target.provider} is broken.")
    if problem := provider.configuration_problem():
        raise ProviderMisconfigured(problem)
    prepared = prepare(request, requested=requested, target=target, provider=provider)
    raw, upstream_tokens = _raw_vectors(
        request, provider=provider, target=target, prepared=prepared, deadline=deadline
    )
    vectors = raw
    if request.dimensions is not None and raw.shape[1] != request.dimensions:
        vectors = dimensions.resized(raw, request.dimensions, conf().dimensions_policy)
    tokens = (
        prepared.prompt_tokens
        if prepared.prompt_tokens is not None
        else upstream_tokens
    )
    metrics.requests.labels(target.provider, target.model.name).inc()
    metrics.prompt_tokens.labels(target.provider, target.model.name).inc(tokens)
    metrics.request_seconds.labels(target.provider, target.model.name).observe(
        time.perf_counter() - started
    )
    return EmbeddingResult(
        vectors=dimensions.normalised(vectors),
        target=target,
        prompt_tokens=tokens,
        fallback_from=requested.provider if target is not requested else None,
        dimensions_policy=None
        if request.dimensions is None
        else dimensions.policy_applied(
            native=target.model.dimensions, answered=vectors.shape[1]
        ),
        truncated=prepared.truncated,
    )


def _raw_vectors(
    request: EmbeddingRequest,
    *,
    provider: Provider,
    target: Target,
    prepared: Prepared,
    deadline: float,
) -> tuple[Vectors, int]:
    """Return the provider's own vectors, from the cache where it has them, and the upstream's count of the rest."""
    native = (
        request.dimensions
        if request.dimensions in target.model.native_dimensions
        else None
    )
    upstream_tokens = 0

    def compute(indices: list[int]) -> Vectors:
        nonlocal upstream_tokens
        embedded = provider.embed(
            target.model,
            [prepared.texts[index] for index in indices],
            dimensions=native,
            input_type=request.input_type,
            timeout_seconds=conf().engine_timeout_seconds
            if provider.local
            else max(0.0, deadline - time.monotonic()),
        )
        upstream_tokens = embedded.prompt_tokens or 0
        return embedded.vectors

    keys = cache_keys(
        target, dimensions=native, input_type=request.input_type, texts=prepared.texts
    )
    return embedding_cache().get_or_compute(keys, compute), upstream_tokens


def _noted(target: Target, error: ProviderError) -> Failure:
    metrics.provider_failures.labels(
        target.provider, target.model.name, error.reason
    ).inc()
    # A provider without a key is how the server is set up, not news.
    level = (
        logging.DEBUG if isinstance(error, ProviderMisconfigured) else logging.WARNING
    )
    log.log(
        level,
        "provider_failed",
        provider=target.provider,
        model=target.model.name,
        reason=error.reason,
    )
    return Failure(
        target=target,
        reason=error.reason,
        message=error.message,
        retry_after_seconds=error.retry_after_seconds,
    )


def _retry_after(failures: list[Failure]) -> int:
    """Return the soonest time any target named, in whole seconds, at least one."""
    named = [
        failure.retry_after_seconds
        for failure in failures
        if failure.retry_after_seconds is not None
    ]
    return max(1, round(min(named))) if named else RETRY_AFTER_SECONDS
