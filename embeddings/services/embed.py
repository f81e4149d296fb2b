"""The use case: texts in, vectors out, from the first target that can serve them."""

import itertools
import logging
import time
from contextlib import nullcontext
from functools import partial

import structlog

from embeddings.conf import conf
from embeddings.services import dimensions, request_metrics
from embeddings.services.cache.cache import embedding_cache
from embeddings.services.errors import (
    InputTooLong,
    ModelNotReady,
    ServiceError,
    ServiceUnavailable,
)
from embeddings.services.pools import pools
from embeddings.services.routing import (
    check_set_up,
    fallback_targets,
    requested_target,
)
from embeddings.services.space_watch import space_watch
from embeddings.services.tokenization import PreparedTexts, estimated_tokens, prepare
from embeddings.services.types import EmbeddingRequest, EmbeddingResult, Failure, Target
from embeddings.services.usage import conventions
from embeddings.services.usage.events import Event, asked, under_way
from embeddings.services.usage.ledger import usage
from providers.base import Embedded, Vectors
from providers.breaker import guarded
from providers.exceptions import (
    ProviderError,
    ProviderMisconfigured,
    ProviderUnavailable,
    SpaceDrifted,
    TextsTooLong,
)
from providers.operator_settings import operator_settings
from providers.registry import registry
from providers.tracing import Kind, step

RETRY_AFTER_SECONDS = 5  # said with a 503 when no provider named a time itself
# One target's part of the time left, so that the next in the chain has some, too.
SHARE_OF_TIME_LEFT = 0.9

log = structlog.get_logger(__name__)


def embed(request: EmbeddingRequest) -> EmbeddingResult:
    """Serve `request` by its own target, else by the first fallback that can.

    Raises ServiceError: InvalidRequest, ModelNotFound, NotAllowed, InputTooLong; if every target failed ModelNotReady,
    or ServiceUnavailable where one of them may answer later. Raises ProviderError where the upstream rejected the
    request itself, which no other provider would answer.
    """
    primary = None
    event = under_way.get() or Event()
    try:
        primary = requested_target(request)
        result = _first_answer(request, primary)
    except Exception:
        if primary is not None:
            event.asked = asked(primary)
        usage().failed(request.caller, primary)
        raise
    event.answered(primary, result)
    usage().answered(request, result, asked=event.asked)
    return result


def _first_answer(request: EmbeddingRequest, primary: Target) -> EmbeddingResult:
    deadline = time.monotonic() + conf().request_timeout_seconds
    failures: list[Failure] = []
    with request_metrics.active_requests.track_inprogress():
        for target in itertools.chain([primary], fallback_targets(request, primary)):
            try:
                with step("target") as tried:
                    if tried:
                        tried.attributes |= conventions.of_target(target)
                    result = _embed_at(
                        request,
                        requested=primary,
                        target=target,
                        timeout_seconds=(deadline - time.monotonic())
                        * SHARE_OF_TIME_LEFT,
                    )
            except ProviderError as error:
                failures.append(_noted(target, error))
                if not error.falls_back:
                    raise
                continue
            if target is not primary:
                request_metrics.fallbacks.labels(
                    primary.provider.name, target.provider.name
                ).inc()
            return result
    raise unanswered(failures)


def unanswered(failures: list[Failure]) -> ServiceError:
    """Return the error of a request that no target could answer: whether to ask again is of use."""
    if all(failure.reason == ProviderMisconfigured.reason for failure in failures):
        return ModelNotReady.of(failures)
    return ServiceUnavailable(failures, retry_after_seconds=_retry_after(failures))


def _embed_at(
    request: EmbeddingRequest,
    *,
    requested: Target,
    target: Target,
    timeout_seconds: float,
) -> EmbeddingResult:
    started = time.perf_counter()
    check_set_up(target)
    provider = target.provider
    if request.stored:
        space_watch().confirm(provider, target.model)
    prepared = prepare(request, requested=requested, target=target)
    try:
        raw, computed = _raw_vectors(
            request, target=target, prepared=prepared, timeout_seconds=timeout_seconds
        )
    except TextsTooLong as error:
        raise _too_long(error, target, prepared) from error
    member = _member(computed)
    if request.stored and member:
        _confirm_members(target, computed)
    elif request.stored and target is not requested:
        # Whoever stores them confirms only the target that was asked for at the end.
        space_watch().confirm(provider, target.model, again=True)
    elif not provider.local:
        space_watch().answered(provider, target.model)
    vectors = raw
    if request.dimensions is not None and raw.shape[1] != request.dimensions:
        cut = target.cuts_to(request.dimensions)
        policy = "reduce" if cut else conf().dimensions_policy
        vectors = dimensions.resized(raw, request.dimensions, policy)
    tokens = _prompt_tokens(prepared, computed)
    name = request_metrics.model_label(target)
    request_metrics.answered(
        provider.name, name, tokens=tokens, seconds=time.perf_counter() - started
    )
    return EmbeddingResult(
        vectors=dimensions.normalised(vectors),
        target=target,
        name=name,
        prompt_tokens=tokens,
        fallback_from=requested.provider.name if target is not requested else None,
        dimensions_policy=dimensions.policy_applied(
            asked=request.dimensions,
            native=target.model.dimensions,
            answered=vectors.shape[1],
        ),
        truncated=prepared.truncated,
        cache_hits=len(prepared.texts) - _texts_of(computed),
        computed_tokens=_computed_tokens(tokens, prepared, computed),
        member=member,
    )


def _raw_vectors(
    request: EmbeddingRequest,
    *,
    target: Target,
    prepared: PreparedTexts,
    timeout_seconds: float,
) -> tuple[Vectors, list[Embedded]]:
    """Return the provider's own vectors, from the cache where it has them, and what it computed."""
    provider = target.provider
    # Work that the local engine can do is not cut short by what remote providers are allowed.
    if provider.local:
        timeout_seconds = conf().engine_timeout_seconds
    computed: list[Embedded] = []

    def compute(indices: list[int]) -> Vectors:
        chosen = [prepared.texts[index] for index in indices]
        pooled = provider.name in operator_settings().pools
        ask = partial(pools().embed, provider) if pooled else provider.embed
        kind: Kind = "internal" if provider.local else "client"
        with step("embeddings", kind) as call:
            if call:
                conventions.describe_call(call, target)
            # A pool's members have breakers of their own.
            with nullcontext() if pooled else guarded(provider.name):
                embedded = ask(
                    target.model,
                    chosen,
                    dimensions=target.native_size(request.dimensions),
                    input_type=request.input_type,
                    timeout_seconds=timeout_seconds,
                )
            if call:
                conventions.describe_answer(call, target, embedded)
        computed.append(embedded)
        return embedded.vectors

    # Of a model that drifted nobody knows what is cached under its name.
    if not request.cached or target.model.drifted:
        return compute([*range(len(prepared.texts))]), computed
    with step("cache") as looked:
        vectors = embedding_cache().get_or_compute(
            prepared.keys, compute, timeout_seconds=timeout_seconds
        )
        misses = _texts_of(computed)
        if looked:
            looked.attributes |= conventions.of_lookup(len(prepared.keys), misses)
    request_metrics.looked_up(hits=len(prepared.keys) - misses, misses=misses)
    return vectors, computed


def _member(computed: list[Embedded]) -> str:
    """Return who answered of a pool, comma-separated if several did; empty without a pool, or from the cache."""
    names = {one.member for one in computed if one.member}
    return ", ".join(sorted(names)) if names else ""


def _confirm_members(target: Target, computed: list[Embedded]) -> None:
    """See that those who answered of a pool still give its vectors. Raises ProviderError, DatabaseError."""
    for name in {one.member for one in computed}:
        member = registry().get(name)
        if member is None:
            raise ProviderUnavailable(f"{name} was deleted while it answered.")
        try:
            space_watch().confirm_member(target.provider, member, target.model)
        except SpaceDrifted as error:  # of this member; others may give what is asked
            raise ProviderUnavailable(
                f"{name} gave other vectors than the pool of {target.provider.name}; it was left out from then on.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ) from error


def _too_long(
    error: TextsTooLong, target: Target, prepared: PreparedTexts
) -> InputTooLong:
    """Return the guide's error; indices are the request's, which may have had some of its texts from the cache."""
    return InputTooLong(
        model=target.label,
        max_tokens=error.max_tokens,
        details=[
            {"index": index, "tokens": error.tokens[text]}
            for index, text in enumerate(prepared.texts)
            if text in error.tokens
        ],
    )


def _prompt_tokens(prepared: PreparedTexts, computed: list[Embedded]) -> int:
    """Return the ids given; else the upstream's own figure, if it read all texts; else the tokenizer's count.

    Where the maker keeps its vocabulary to itself and the cache answered, OpenAI's serves as an estimate.
    """
    if prepared.given_tokens is not None:
        return prepared.given_tokens
    if _texts_of(computed) == len(prepared.texts) and None not in _stated(computed):
        return sum(figure or 0 for figure in _stated(computed))
    return (
        estimated_tokens([prepared.prompt + text for text in prepared.texts])
        if prepared.counted_tokens is None
        else prepared.counted_tokens
    )


def _computed_tokens(
    tokens: int, prepared: PreparedTexts, computed: list[Embedded]
) -> int:
    """Return what the provider read for this request: its own figure, else the share of the texts it was given."""
    stated = _stated(computed)
    if any(figure is None for figure in stated):
        return -(-tokens * _texts_of(computed) // len(prepared.texts))
    return sum(figure or 0 for figure in stated)


def _texts_of(computed: list[Embedded]) -> int:
    return sum(len(embedded.vectors) for embedded in computed)


def _stated(computed: list[Embedded]) -> list[int | None]:
    return [embedded.prompt_tokens for embedded in computed]


def _noted(target: Target, error: ProviderError) -> Failure:
    request_metrics.provider_failures.labels(
        target.provider.name, request_metrics.model_label(target), error.reason
    ).inc()
    # A provider without a key is how the server is set up, not news.
    level = (
        logging.DEBUG if isinstance(error, ProviderMisconfigured) else logging.WARNING
    )
    log.log(
        level,
        "provider_failed",
        provider=target.provider.name,
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
