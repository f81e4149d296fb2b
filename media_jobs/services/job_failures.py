"""What a run's failure means for its job: it waits, it is tried again and the attempt counts, or it has failed."""

from embeddings.services.errors import ServiceError, ServiceUnavailable
from embeddings.services.types import Failure
from providers import breaker
from providers.exceptions import (
    BreakerOpen,
    Overloaded,
    ProviderError,
    ProviderRejected,
    ProviderThrottled,
)

# Where no second attempt helps: the operator must act first.
LASTING_REASONS = {"not_configured", "denied", "drifted"}
# Where nobody looked at the job's texts: it waits.
WAITED_FOR = {BreakerOpen.reason, ProviderThrottled.reason, Overloaded.reason}


def outage_seconds(error: ServiceError | ProviderError) -> float | None:
    """Return the seconds after which a provider that was not called, throttles or is away may answer; else None."""
    if not isinstance(error, ServiceUnavailable):
        return None
    passing = [f for f in error.failures if f.reason not in LASTING_REASONS]
    if not passing or not all(
        failure.reason in WAITED_FOR or _is_away(failure) for failure in passing
    ):
        return None
    return min(_seconds(failure) for failure in passing)


def may_pass(error: ServiceError | ProviderError) -> bool:
    """Whether the same job may succeed another time although nobody acts."""
    if isinstance(error, ServiceUnavailable):
        return not all(f.reason in LASTING_REASONS for f in error.failures)
    if isinstance(error, ProviderError):
        return (
            not isinstance(error, ProviderRejected)
            and error.reason not in LASTING_REASONS
        )
    return False


def _is_away(failure: Failure) -> bool:
    """Whether a remote provider failed so often in a row, for whomever, that its breaker opened."""
    provider = failure.target.provider
    if provider.local:
        return False  # what fails here may be the document
    return breaker.retry_after(provider.name) is not None


def _seconds(failure: Failure) -> float:
    """Return when the provider may answer: as it said itself, else as its breaker says."""
    return (
        failure.retry_after_seconds
        or breaker.retry_after(failure.target.provider.name)
        or 0.0
    )
