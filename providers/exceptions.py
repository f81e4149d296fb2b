"""What can go wrong at a provider. The class decides: fall back or not, count for the breaker or not, retry or not.

`message` is public: one plain sentence without keys, URLs, inputs or upstream bodies.
"""

from collections.abc import Mapping
from typing import ClassVar, TypeVar

AnyError = TypeVar("AnyError", bound=BaseException)


class ProviderError(Exception):
    """Base of all provider failures."""

    falls_back: ClassVar[bool] = True
    trips_breaker: ClassVar[bool] = True
    retryable: ClassVar[bool] = False
    reason: ClassVar[str] = "error"

    def __init__(
        self, message: str, *, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_seconds = retry_after_seconds


class ProviderMisconfigured(ProviderError):
    """No key, no runtime or no weights: nothing was called."""

    trips_breaker = False
    reason = "not_configured"


class VectorsDiffer(ProviderMisconfigured):
    """A local model that is loaded gives other vectors than when it was prepared, or was never checked."""


class ProviderUnavailable(ProviderError):
    """Connection failure or upstream 5xx."""

    retryable = True
    reason = "unavailable"


class EngineClosed(ProviderUnavailable):
    """The local engine of this model was stopped; asked again, it is loaded again."""


class EngineAway(ProviderUnavailable):
    """The engine process ended and is being started again: it is back in seconds, whatever the breaker would say."""

    trips_breaker = False


class EngineNotServed(EngineAway):
    """No engine process is there, nor is one being started."""


class EngineCrashed(ProviderError):
    """The engine's process died of this very request, twice: it would do so again."""

    falls_back = False
    trips_breaker = False
    reason = "engine_crashed"


class ModelReplaced(ProviderUnavailable):
    """A local model was prepared again between the look at its revision and the run; asked again, it answers."""

    trips_breaker = False
    reason = "replaced"


class ProviderTimeout(ProviderError):
    """The request's deadline passed before the upstream answered."""

    reason = "timeout"


class ProviderThrottled(ProviderError):
    """Upstream 429."""

    retryable = True
    reason = "throttled"


class ProviderDenied(ProviderError):
    """Upstream 401 or 403: the operator's key is bad, not the client's."""

    reason = "denied"


class ProviderMalformed(ProviderError):
    """The answer is not what was asked for: wrong count, shape, JSON, non-finite numbers."""

    reason = "malformed_answer"


class ProviderRejected(ProviderError):
    """Any other upstream 4xx: the request itself is wrong; passed on to the client as 400 or 404."""

    falls_back = False
    trips_breaker = False
    reason = "rejected"

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = 404 if status == 404 else 400
        self.param = param


class TextsTooLong(ProviderRejected):
    """Texts over the model's limit that were not refused before; `tokens` says how many each has."""

    reason = "input_too_long"

    def __init__(self, *, model: str, max_tokens: int, tokens: Mapping[str, int]):
        super().__init__(
            f"One or more inputs exceed max tokens {max_tokens} for model {model}",
            param="input",
        )
        self.max_tokens = max_tokens
        self.tokens = tokens


class TooManyTexts(ProviderRejected):
    """The upstream takes fewer texts at once; asked again with fewer, it answers."""


class UnknownModel(ProviderRejected):
    """No such model at this provider, nor anything to download under that name."""

    reason = "unknown_model"

    def __init__(self, message: str) -> None:
        super().__init__(message, status=404, param="model")


class Overloaded(ProviderError):
    """The local engine's queue is full; answered at once."""

    trips_breaker = False
    reason = "overloaded"


class Abandoned(ProviderError):
    """The client left before its answer was there, and the work was dropped."""

    falls_back = False
    trips_breaker = False
    reason = "abandoned"


class ActionCancelled(ProviderError):
    """Somebody cancelled the download or warm-up that was under way."""

    falls_back = False
    trips_breaker = False
    reason = "cancelled"


class SpaceDrifted(ProviderError):
    """A remote model's vectors are no longer those of its space; nothing of it may be stored."""

    trips_breaker = False
    reason = "drifted"


class BreakerOpen(ProviderError):
    """The provider's circuit breaker is open; nothing was called."""

    trips_breaker = False
    reason = "breaker_open"


def bare_copy(error: AnyError) -> AnyError:
    """Return an exception that says the same without its traceback: the frames there hold whole models.

    What several threads wait for is handed on as this, and raised as one more copy by each. The exception itself, kept
    where its own frames can see it, would be a cycle that only a full garbage collection ends.
    """
    copy = type(error).__new__(type(error), *error.args)
    copy.__dict__.update(error.__dict__)
    return copy
