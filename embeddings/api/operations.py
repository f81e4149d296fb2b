"""How health, set-up and figures look on the wire."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from embeddings.conf import conf
from embeddings.services.breakers import BreakerState
from embeddings.services.cache.cache import CacheStats
from embeddings.services.catalog import ProviderState
from embeddings.services.health import Health
from embeddings.services.monitoring import Figures
from providers.models import RemoteSpace


def timestamp(moment: datetime | None) -> str | None:
    """Return `moment` in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def health_report(
    health: Health,
    *,
    cache: CacheStats,
    active_requests: int,
    breakers: Iterable[BreakerState],
) -> dict[str, Any]:
    """Return the health endpoint's object."""
    return {
        "status": "healthy" if health.healthy else "degraded",
        "service": "embeddings_v5_production_enhanced",
        "timestamp": timestamp(datetime.now(UTC)),
        "cache_stats": asdict(cache),
        "active_requests": active_requests,
        "circuit_breakers": _by_provider(breakers),
        **what_fails(health),
    }


def what_fails(health: Health) -> dict[str, Any]:
    """Return why embeddings cannot be made, and what else does not work: each only where there is something."""
    return {
        **({"problem": health.problem} if health.problem else {}),
        **({"degraded": list(health.degraded)} if health.degraded else {}),
    }


def breaker_report(state: BreakerState) -> dict[str, Any]:
    """Return one circuit breaker."""
    return {
        **asdict(state),
        "opened_at": timestamp(state.opened_at),
        "retry_at": timestamp(state.retry_at),
    }


def providers_report(providers: Iterable[ProviderState]) -> dict[str, Any]:
    """Return the set-up of every provider, and what governs routing."""
    return {
        "default_provider": conf().default_provider,
        "default_model": conf().default_model,
        "fallback": conf().fallback,
        "fallback_chain": {
            name: list(chain) for name, chain in conf().fallback_chain.items()
        },
        "providers": [_provider_report(provider) for provider in providers],
    }


def metrics_report(
    figures: Figures,
    *,
    cache: CacheStats,
    breakers: Iterable[BreakerState],
    spaces: Iterable[RemoteSpace],
) -> dict[str, Any]:
    """Return the summary of the metrics."""
    return {
        "cache": asdict(cache),
        "active_requests": figures.active_requests,
        "circuit_breakers": _by_provider(breakers),
        "drift": [_space_report(row) for row in spaces],
        "counters": figures.counters,
        "latency": [
            {
                key: value
                for key, value in asdict(latency).items()
                if key != "percentiles"
            }
            | latency.percentiles
            for latency in figures.latencies
        ],
        "config": {
            "default_provider": conf().default_provider,
            "default_model": conf().default_model,
            "fallback": conf().fallback,
            "dimensions_policy": conf().dimensions_policy,
            "request_timeout_seconds": conf().request_timeout_seconds,
            "max_body_bytes": conf().max_body_bytes,
        },
    }


def _by_provider(breakers: Iterable[BreakerState]) -> dict[str, Any]:
    return {
        state.provider: {"state": state.state, "failure_count": state.failure_count}
        for state in breakers
    }


def _space_report(row: RemoteSpace) -> dict[str, Any]:
    return {
        "provider": row.provider,
        "model": row.model,
        "host": row.host,
        "state": row.state,
        "cosine": row.cosine,
        "checked_at": timestamp(row.checked_at),
        "revision": row.revision,
    }


def _provider_report(provider: ProviderState) -> dict[str, Any]:
    return {
        "name": provider.name,
        "local": provider.local,
        "allowed": provider.allowed,
        "configured": provider.problem is None,
        "problem": provider.problem,
        "models": [
            {
                "model": model.target.model.name,
                "allowed": model.allowed,
                "default": model.default,
                "drifted": model.target.model.drifted,
            }
            for model in provider.models
        ],
    }
