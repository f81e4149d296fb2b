"""What the services refuse, and why. `message` is one plain public sentence; the API maps each class to a status."""

from collections.abc import Mapping, Sequence

from embeddings.services.types import Failure


class ServiceError(Exception):
    """Base of all domain errors. `param` names the field at fault, where there is one."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class InvalidRequest(ServiceError):
    """A field has a value that cannot be served."""


class ModelNotFound(ServiceError):
    """The provider lists its models, and this is not one of them."""

    def __init__(self, message: str) -> None:
        super().__init__(message, param="model", code="model_not_found")


class ProviderNotFound(ServiceError):
    """A path names a provider that is not registered."""


class NotFound(ServiceError):
    """What was named is not there, or another's."""


class Conflict(ServiceError):
    """The request does not fit what is stored."""


class UnsupportedFormat(ServiceError):
    """A file in a format that nothing here can read."""


class NotAllowed(ServiceError):
    """The allowlists or the console leave this provider or model out."""


class InputTooLong(ServiceError):
    """One or more inputs exceed the model's token limit; `details` lists each with its index and tokens."""

    def __init__(
        self, *, model: str, max_tokens: int, details: Sequence[Mapping[str, int]]
    ) -> None:
        super().__init__(
            f"One or more inputs exceed max tokens {max_tokens} for model {model}",
            param="input",
        )
        self.details = list(details)


class ModelActionFailed(ServiceError):
    """A warm-up or a download did not succeed."""


class BudgetExhausted(ServiceError):
    """The caller has used up a monthly budget; it renews after `retry_after_seconds`."""

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message, code="insufficient_quota")
        self.retry_after_seconds = retry_after_seconds


class QuotaExceeded(ServiceError):
    """The caller may not store more; to ask again is no use before something is deleted."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="quota_exceeded")


class QueueFull(ServiceError):
    """The caller has as many jobs waiting as it may; some end with time."""

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message, code="quota_exceeded")
        self.retry_after_seconds = retry_after_seconds


class Busy(ServiceError):
    """What was asked for cannot be done now; asked again in `retry_after_seconds`, it may be."""

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ModelNotReady(ServiceError):
    """What was asked for cannot be served here until an operator acts; the message says how. To ask again is no use."""

    def __init__(self, message: str) -> None:
        super().__init__(message, param="model", code="model_not_ready")

    @classmethod
    def of(cls, failures: Sequence[Failure]) -> "ModelNotReady":
        """Name every target that was tried, and what it lacks."""
        return cls(f"No provider is set up to answer ({_tried(failures)}).")


class ServiceUnavailable(ServiceError):
    """No target could serve the request; `failures` names each that was tried."""

    def __init__(
        self, failures: Sequence[Failure], *, retry_after_seconds: int
    ) -> None:
        super().__init__(f"No provider could answer ({_tried(failures)}).")
        self.failures = list(failures)
        self.retry_after_seconds = retry_after_seconds


def _tried(failures: Sequence[Failure]) -> str:
    return "; ".join(
        f"{f.target.provider.name}: {f.message.rstrip('.')}" for f in failures
    )
