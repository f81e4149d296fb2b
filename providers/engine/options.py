"""How the local engine is set up."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from providers.engine.batcher import QUEUE_TOKENS
from providers.engine.devices import AUTO, named
from providers.engine.hub import HUB_ENDPOINT, Hub
from providers.engine.pool import PoolLimits
from providers.engine.reference import sentence_transformers
from providers.engine.weights import Weights

# auto: the engine process of a server that runs on this machine for the same data folder, else this process.
EngineMode = Literal["auto", "process", "inline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How the local engine is set up; two plug-ins with equal options share one engine."""

    data_dir: Path
    hub_endpoint: str = HUB_ENDPOINT
    hub_token: str | None = None
    threads: int | None = None
    queue_max_tokens: int = QUEUE_TOKENS
    models_max_bytes: int | None = None
    model_idle_seconds: float | None = None
    model_paths: tuple[Path, ...] = ()
    process: EngineMode = "auto"
    device: str = AUTO

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Take the fields by name; only `data_dir` is required, None means the default."""
        return cls(
            **{key: value for key, value in options.items() if value is not None}
        )


def weights_of(options: EngineOptions) -> Weights:
    """Return the models on disk. Nothing is read yet."""
    return Weights(
        options.data_dir,
        hub=Hub(endpoint=options.hub_endpoint, token=options.hub_token),
        model_paths=options.model_paths,
        reference=sentence_transformers,
        device=named(options.device),
    )


def limits_of(options: EngineOptions) -> PoolLimits:
    """Return what the models in memory may take."""
    return PoolLimits(
        threads=options.threads,
        queue_tokens=options.queue_max_tokens,
        memory_bytes=options.models_max_bytes,
        idle_seconds=options.model_idle_seconds,
    )
