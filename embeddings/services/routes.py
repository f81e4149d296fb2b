"""What would answer a request, and why: the same steps as real routing takes, without calling a provider."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from embeddings.services.catalog import default_target
from embeddings.services.embed import unanswered
from embeddings.services.errors import NotAllowed, ServiceError
from embeddings.services.pools import pools
from embeddings.services.routing import (
    Fallback,
    fallbacks,
    find_target,
    refusal,
    requested_target,
)
from embeddings.services.types import EmbeddingRequest, Failure, Target
from providers import breaker
from providers.exceptions import BreakerOpen, ProviderError, ProviderMisconfigured
from providers.registry import registry

Outcome = Literal["answers", "fails", "left out", "not needed"]
# What a provider that passes any name on is asked for, to see what stands in its chain.
ANY_MODEL = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One place in a request's way. `target` is None where a provider has nothing to run; `reason` may be empty."""

    provider: str
    target: Target | None
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A request's way: `answer` is what serves it, else `error` is what it gets."""

    steps: tuple[Step, ...]
    answer: Target | None = None
    error: ServiceError | None = None


def route_of(request: EmbeddingRequest) -> Route:
    """Return the way that a request takes now, if providers do as they did last. Its texts are not looked at.

    Cached vectors are served whatever state a provider's breaker is in.
    """
    try:
        primary = requested_target(request)
    except ServiceError as error:
        return Route(steps=tuple(_refused(request, error)), error=error)
    steps: list[Step] = []
    failures: list[Failure] = []
    answer: Target | None = None
    first = Fallback(provider=primary.provider.name, target=primary)
    for place in itertools.chain([first], fallbacks(request, primary)):
        outcome, reason = _outcome(place, failures, answered=answer is not None)
        if outcome == "answers":
            answer = place.target
        steps.append(
            Step(
                provider=place.provider,
                target=place.target,
                outcome=outcome,
                reason=reason,
            )
        )
    return Route(
        steps=tuple(steps),
        answer=answer,
        error=None if answer else unanswered(failures),
    )


def chains() -> Iterator[tuple[Target, list[Fallback]]]:
    """Yield, for each provider, the first of its models and all its fallbacks, whatever mode a request asks for."""
    default = default_target()
    for provider in registry().all():
        specs = [spec for spec in registry().models(provider) if not spec.retired]
        targets = [Target(provider=provider, model=spec) for spec in specs]
        targets.sort(key=lambda one: not one.same_as(default))
        if not targets and (spec := registry().resolve(provider, ANY_MODEL)):
            targets = [Target(provider=provider, model=spec)]
        if targets:
            request = EmbeddingRequest(inputs=(), target=targets[0], fallback="any")
            yield targets[0], list(fallbacks(request, targets[0]))


def obstacle(target: Target) -> ProviderError | None:
    """Return the error with which a request to `target` would fail before it is called, or None."""
    if problem := target.problem():
        return ProviderMisconfigured(problem)
    problem = breaker.refusal(target.provider.name)
    if problem and not pools().serves(target.provider, target.model):
        return BreakerOpen(
            problem, retry_after_seconds=breaker.retry_after(target.provider.name)
        )
    return None


def _outcome(
    place: Fallback, failures: list[Failure], *, answered: bool
) -> tuple[Outcome, str]:
    """Return what becomes of one place, and why; a failure is added to `failures`."""
    if place.left_out is not None or place.target is None:
        return "left out", place.left_out or ""
    if answered:
        return "not needed", ""
    problem = obstacle(place.target)
    if problem is None:
        return "answers", ""
    failures.append(
        Failure(
            target=place.target,
            reason=problem.reason,
            message=problem.message,
            retry_after_seconds=problem.retry_after_seconds,
        )
    )
    return "fails", problem.message


def _refused(request: EmbeddingRequest, error: ServiceError) -> Iterator[Step]:
    """Yield what was asked for and may not be used, and who says so."""
    if not isinstance(error, NotAllowed):
        return
    target = request.target or find_target(
        model=request.model, provider=request.provider
    )
    provider, model = target.provider.name, target.model.name
    reason = refusal(provider, model, request.caller) or error.message
    yield Step(provider=provider, target=target, outcome="fails", reason=reason)
