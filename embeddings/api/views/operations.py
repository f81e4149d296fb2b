"""Health, open to all; and what Prometheus reads."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from django.http import HttpResponse
from django_prometheus.exports import ExportToDjangoView
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.access.scrapers import ScraperAuthentication
from embeddings.api.json_types import LeftOut
from embeddings.api.views.administration import (
    AdminView,
    BreakerSummary,
    breaker_summaries,
)
from embeddings.services.breaker_states import known_breaker_states
from embeddings.services.cache.cache import CacheStats, embedding_cache
from embeddings.services.health import health_probe
from embeddings.services.monitoring import active_requests, collected
from embeddings.services.pool_states import show_pools
from embeddings.services.space_watch import show_drift


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """`problem`: why embeddings cannot be made. `degraded`: what else does not work."""

    status: Literal["healthy", "degraded"]
    service: str = "embeddings_v5_production_enhanced"
    timestamp: datetime
    cache_stats: CacheStats
    active_requests: int
    circuit_breakers: dict[str, BreakerSummary]
    problem: LeftOut[str]
    degraded: LeftOut[list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    status: Literal["ok"] = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """`problem` and `degraded`: as in HealthReport."""

    status: Literal["ready", "not ready"]
    problem: LeftOut[str]
    degraded: LeftOut[list[str]]


class OpenView(APIView):
    """A view that asks for no key."""

    authentication_classes = ()
    permission_classes = (AllowAny,)


class ShowHealth(OpenView):
    """Say whether embeddings can be made: 200 `healthy`, or 503 `degraded` with the problem."""

    @extend_schema(
        operation_id="health",
        responses={
            (200, "application/json"): HealthReport,
            (503, "application/json"): HealthReport,
        },
    )
    def get(self, request: Request) -> Response:
        health = health_probe().check()
        report = HealthReport(
            status="healthy" if health.healthy else "degraded",
            timestamp=datetime.now(UTC),
            cache_stats=embedding_cache().stats(),
            active_requests=active_requests(),
            circuit_breakers=breaker_summaries(known_breaker_states()),
            problem=health.problem,
            degraded=list(health.degraded) or None,
        )
        return Response(report, status=200 if health.healthy else 503)


class ShowPrometheus(AdminView):
    """Answer Prometheus, with what the database has of the spaces."""

    authentication_classes = (ScraperAuthentication,)
    needs = "embeddings.view_usagehour"

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        show_drift()
        show_pools()
        collected()  # says why there are none
        response: HttpResponse = ExportToDjangoView(request._request)
        return response


class ShowLiveness(OpenView):
    """Tell that the process answers; nothing else is checked."""

    @extend_schema(operation_id="liveness", responses={200: Liveness})
    def get(self, request: Request) -> Response:
        return Response(Liveness())


class ShowReadiness(OpenView):
    """Say whether to send traffic here: 200 while a request for embeddings would be answered, else 503."""

    @extend_schema(
        operation_id="readiness",
        responses={
            (200, "application/json"): Readiness,
            (503, "application/json"): Readiness,
        },
    )
    def get(self, request: Request) -> Response:
        health = health_probe().check()
        report = Readiness(
            status="ready" if health.healthy else "not ready",
            problem=health.problem,
            degraded=list(health.degraded) or None,
        )
        return Response(report, status=200 if health.healthy else 503)
