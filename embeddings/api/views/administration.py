"""For admins, each by its permission: how providers are set up, how they fare, and breakers to reset."""

from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.access.callers import caller_of
from embeddings.access.permissions import HasPermission
from embeddings.api import answers
from embeddings.api.operations import breaker_report, metrics_report, providers_report
from embeddings.services.audit import record_api
from embeddings.services.breakers import (
    breaker_states,
    known_breaker_states,
    reset_breaker,
)
from embeddings.services.cache.cache import embedding_cache
from embeddings.services.catalog import list_providers
from embeddings.services.monitoring import figures
from embeddings.services.space_watch import spaces_in_use


class AdminView(APIView):
    """A view for admins only. `needs`: the permission that the console asks for the same."""

    permission_classes = (HasPermission,)
    needs: ClassVar[str]


class ShowProvidersConfig(AdminView):
    """Tell which providers are set up, what is missing, and their models. Keys are never shown."""

    needs = "providers.view_providersetting"

    @extend_schema(
        operation_id="providers_config", responses={200: answers.PROVIDERS_CONFIG}
    )
    def get(self, request: Request) -> Response:
        return Response(providers_report(list_providers()))


class ListCircuitBreakers(AdminView):
    """List the circuit breaker of every provider, used or not."""

    needs = "providers.view_breaker"

    @extend_schema(
        operation_id="list_circuit_breakers", responses={200: answers.CIRCUIT_BREAKERS}
    )
    def get(self, request: Request) -> Response:
        return Response({"data": [breaker_report(state) for state in breaker_states()]})


class ResetCircuitBreaker(AdminView):
    """Close a provider's circuit breaker in all processes at once."""

    needs = "providers.change_breaker"

    @extend_schema(
        operation_id="reset_circuit_breaker",
        request=None,
        responses={200: answers.BREAKER_RESET},
    )
    def post(self, request: Request, provider: str) -> Response:
        before, after = reset_breaker(provider)
        record_api(
            caller_of(request),
            "reset",
            f"circuit breaker {after.provider}",
            before=breaker_report(before),
            after=breaker_report(after),
        )
        return Response({"status": "ok", **breaker_report(after)})


class ShowMetrics(AdminView):
    """Sum up cache, requests, failures, latencies and breakers over all processes."""

    needs = "embeddings.view_usagehour"

    @extend_schema(operation_id="embeddings_metrics", responses={200: answers.METRICS})
    def get(self, request: Request) -> Response:
        return Response(
            metrics_report(
                figures(),
                cache=embedding_cache().stats(),
                breakers=known_breaker_states(),
                spaces=[row for _, row in spaces_in_use()],
            )
        )


class ClearCache(AdminView):
    """Forget every cached vector, as a change of a model does for its own."""

    needs = "providers.change_modelentry"

    @extend_schema(operation_id="clear_cache", responses={200: answers.CACHE_CLEARED})
    def delete(self, request: Request) -> Response:
        cleared = embedding_cache().clear()
        record_api(
            caller_of(request), "clear", "embedding cache", before={"vectors": cleared}
        )
        return Response({"status": "ok", "cleared": cleared})
