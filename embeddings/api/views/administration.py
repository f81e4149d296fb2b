"""For admins, each by its permission: how providers are set up, how they fare, and breakers to reset."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.access.authentication import caller_of
from embeddings.access.permissions import HasPermission
from embeddings.api.json_types import filled, plain
from embeddings.conf import DimensionsPolicy, FallbackMode, conf
from embeddings.services.audit import record_api
from embeddings.services.breaker_states import (
    BreakerState,
    BreakerWord,
    breaker_states,
    known_breaker_states,
    reset_breaker,
)
from embeddings.services.cache.cache import CacheStats, embedding_cache
from embeddings.services.catalog import ListedModel, list_providers
from embeddings.services.monitoring import Latency, figures
from embeddings.services.pool_states import Admission
from embeddings.services.space_watch import spaces_in_use


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderModel:
    model: str
    allowed: bool
    default: bool
    drifted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolMember:
    """`problem`: why it serves nothing; `models` say the same of each that was used."""

    name: str
    in_flight: int
    breaker: BreakerWord
    problem: str | None
    models: list[Admission]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderReport:
    name: str
    kind: str
    pool: str | None
    local: bool
    allowed: bool
    configured: bool
    problem: str | None
    models: list[ProviderModel]
    members: list[PoolMember]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvidersConfig:
    """The set-up of every provider, and what governs routing."""

    default_provider: str
    default_model: str
    fallback: FallbackMode
    fallback_chain: dict[str, list[str]]
    providers: list[ProviderReport]


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakers:
    data: list[BreakerState]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerReset:
    status: Literal["ok"] = "ok"
    provider: str
    state: BreakerWord
    failure_count: int
    success_count: int
    opened_at: datetime | None
    retry_at: datetime | None
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSummary:
    state: BreakerWord
    failure_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    provider: str
    model: str
    host: str
    state: Literal["ok", "drifted"]
    cosine: float | None
    checked_at: datetime | None
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsInUse:
    default_provider: str
    default_model: str
    fallback: FallbackMode
    dimensions_policy: DimensionsPolicy
    request_timeout_seconds: float
    max_body_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    cache: CacheStats
    active_requests: int
    circuit_breakers: dict[str, BreakerSummary]
    drift: list[Drift]
    counters: dict[str, list[dict[str, Any]]]
    latency: list[Latency]
    config: SettingsInUse


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCleared:
    status: Literal["ok"] = "ok"
    cleared: int


class AdminView(APIView):
    """A view for admins only. `needs`: the permission that the console asks for the same."""

    permission_classes = (HasPermission,)
    needs: ClassVar[str]


class ShowProvidersConfig(AdminView):
    """Tell which providers are set up, what is missing, and their models. Keys are never shown."""

    needs = "providers.view_providersetting"

    @extend_schema(operation_id="providers_config", responses={200: ProvidersConfig})
    def get(self, request: Request) -> Response:
        providers = [
            filled(
                ProviderReport,
                provider,
                configured=provider.problem is None,
                models=[_provider_model(listed) for listed in provider.models],
                members=[
                    filled(PoolMember, member, models=list(member.models))
                    for member in provider.members
                ],
            )
            for provider in list_providers()
        ]
        chains = {name: list(chain) for name, chain in conf().fallback_chain.items()}
        return Response(
            filled(ProvidersConfig, conf(), fallback_chain=chains, providers=providers)
        )


class ListCircuitBreakers(AdminView):
    """List the circuit breaker of every provider, used or not."""

    needs = "providers.view_breaker"

    @extend_schema(
        operation_id="list_circuit_breakers", responses={200: CircuitBreakers}
    )
    def get(self, request: Request) -> Response:
        return Response(CircuitBreakers(data=list(breaker_states())))


class ResetCircuitBreaker(AdminView):
    """Close a provider's circuit breaker in all processes at once."""

    needs = "providers.change_breaker"

    @extend_schema(
        operation_id="reset_circuit_breaker",
        request=None,
        responses={200: BreakerReset},
    )
    def post(self, request: Request, provider: str) -> Response:
        caller = caller_of(request)
        before, after = reset_breaker(provider, by=caller.username)
        record_api(
            caller,
            "reset",
            f"circuit breaker {after.provider}",
            before=plain(before),
            after=plain(after),
        )
        return Response(filled(BreakerReset, after, status="ok"))


class ShowMetrics(AdminView):
    """Sum up cache, requests, failures, latencies and breakers over all processes."""

    needs = "embeddings.view_usagehour"

    @extend_schema(operation_id="embeddings_metrics", responses={200: Metrics})
    def get(self, request: Request) -> Response:
        found = figures()
        return Response(
            Metrics(
                cache=embedding_cache().stats(),
                active_requests=found.active_requests,
                circuit_breakers=breaker_summaries(known_breaker_states()),
                drift=[filled(Drift, row) for _, row in spaces_in_use()],
                counters=found.counters,
                latency=found.latencies,
                config=filled(SettingsInUse, conf()),
            )
        )


class ClearCache(AdminView):
    """Forget every cached vector, as a change of a model does for its own."""

    needs = "providers.change_modelentry"

    @extend_schema(operation_id="clear_cache", responses={200: CacheCleared})
    def delete(self, request: Request) -> Response:
        cleared = embedding_cache().clear()
        record_api(
            caller_of(request), "clear", "embedding cache", before={"vectors": cleared}
        )
        return Response(CacheCleared(cleared=cleared))


def breaker_summaries(states: Iterable[BreakerState]) -> dict[str, BreakerSummary]:
    """Return in short how each provider's breaker stands."""
    return {state.provider: filled(BreakerSummary, state) for state in states}


def _provider_model(listed: ListedModel) -> ProviderModel:
    model = listed.target.model
    return ProviderModel(
        model=model.name,
        allowed=listed.allowed,
        default=listed.default,
        drifted=model.drifted,
    )
