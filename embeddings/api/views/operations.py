"""Health, open to all; and what Prometheus reads."""

from django.http import HttpResponse
from django_prometheus.exports import ExportToDjangoView
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings import metrics
from embeddings.access.scrapers import ScraperAuthentication
from embeddings.api import answers
from embeddings.api.operations import health_report, what_fails
from embeddings.api.views.administration import AdminView
from embeddings.services.breakers import known_breaker_states
from embeddings.services.cache.cache import embedding_cache
from embeddings.services.health import health_probe
from embeddings.services.monitoring import collected
from embeddings.services.space_watch import show_drift


class OpenView(APIView):
    """A view that asks for no key."""

    authentication_classes = ()
    permission_classes = (AllowAny,)


class ShowHealth(OpenView):
    """Say whether embeddings can be made: 200 `healthy`, or 503 `degraded` with the problem."""

    @extend_schema(
        operation_id="health",
        responses={
            (200, "application/json"): answers.HEALTH,
            (503, "application/json"): answers.HEALTH,
        },
    )
    def get(self, request: Request) -> Response:
        health = health_probe().check()
        report = health_report(
            health,
            cache=embedding_cache().stats(),
            active_requests=metrics.active_requests.count,
            breakers=known_breaker_states(),
        )
        return Response(report, status=200 if health.healthy else 503)


class ShowPrometheus(AdminView):
    """Answer Prometheus, with what the database has of the spaces."""

    authentication_classes = (ScraperAuthentication,)
    needs = "embeddings.view_usagehour"

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        show_drift()
        collected()  # says why there are none
        response: HttpResponse = ExportToDjangoView(request._request)
        return response


class ShowLiveness(OpenView):
    """Tell that the process answers; nothing else is checked."""

    @extend_schema(operation_id="liveness", responses={200: answers.LIVENESS})
    def get(self, request: Request) -> Response:
        return Response({"status": "ok"})


class ShowReadiness(OpenView):
    """Say whether to send traffic here: 200 while a request for embeddings would be answered, else 503."""

    @extend_schema(
        operation_id="readiness",
        responses={
            (200, "application/json"): answers.READINESS,
            (503, "application/json"): answers.READINESS,
        },
    )
    def get(self, request: Request) -> Response:
        health = health_probe().check()
        status = {"status": "ready" if health.healthy else "not ready"}
        return Response(
            {**status, **what_fails(health)}, status=200 if health.healthy else 503
        )
