"""Whether embedding works now, proven by doing it."""

import functools
import threading
import time
from dataclasses import dataclass

from embeddings.conf import DEFAULT_LOCAL_MODEL, conf
from embeddings.services.routing import primary_target, split_model
from embeddings.services.types import Target
from providers.exceptions import ProviderError
from providers.registry import registry

FRESH_SECONDS = (
    5.0  # a proof this young is not repeated, so that probes cost nothing under load
)
PROBE_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`problem` is a public sentence, None while inference works."""

    healthy: bool
    problem: str | None = None


class HealthProbe:
    """Embed one short text with the local model that stands in for the others, and remember the outcome briefly."""

    timer = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcome = Health(healthy=False, problem="Starting.")
        self._proven_at: float | None = None

    def check(self) -> Health:
        with self._lock:
            if (
                self._proven_at is None
                or self.timer() - self._proven_at > FRESH_SECONDS
            ):
                self._outcome = self._probe()
                self._proven_at = self.timer()
            return self._outcome

    def _probe(self) -> Health:
        target = probed_target()
        provider = registry().get(target.provider)
        if provider is None:
            return Health(
                healthy=False, problem=f"Provider {target.provider} is missing."
            )
        try:
            provider.embed(
                target.model,
                ["health"],
                dimensions=None,
                input_type="document",
                timeout_seconds=PROBE_TIMEOUT_SECONDS,
            )
        except ProviderError as error:
            return Health(healthy=False, problem=error.message)
        if not provider.healthy():
            return Health(
                healthy=False,
                problem="A run of the local engine hangs; it is replaced.",
            )
        return Health(healthy=True)


def probed_target() -> Target:
    """Return the default model if it is local (probing costs nothing then), else the default local model."""
    default = primary_target(model=None, provider=None)
    provider = registry().get(default.provider)
    if provider and provider.local:
        return default
    prefix, name = split_model(conf().fallback_models.get("*", DEFAULT_LOCAL_MODEL))
    return primary_target(model=name, provider=prefix or "huggingface")


@functools.cache
def health_probe() -> HealthProbe:
    """Return the process-wide probe."""
    return HealthProbe()
