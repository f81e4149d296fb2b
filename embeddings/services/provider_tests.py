"""A provider tried out: one short text, past the cache, the fallbacks and the circuit breaker, which stays as it is."""

import contextlib
import time
from datetime import timedelta

import structlog
from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import Max
from django.utils import timezone

from embeddings.models import UsageHour
from embeddings.services.catalog import default_target
from embeddings.services.errors import ProviderNotFound, ServiceError
from embeddings.services.routing import find_target, is_allowed
from embeddings.services.types import Target
from providers.base import Provider
from providers.exceptions import ProviderError
from providers.models import ProviderTest
from providers.registry import registry

TEXTS = ("A test of the connection.",)
TIMEOUT_SECONDS = 10.0
# Tests that are kept for each provider.
KEPT_TESTS = 50
NO_MODEL = "It lists no model to try; name one, or add one in the console."
# A provider that lists no models is tried with what it was used with this recently.
RECENT = timedelta(days=7)

log = structlog.get_logger(__name__)


def try_provider(
    name: str,
    *,
    model: str | None = None,
    by: str = "",
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> ProviderTest:
    """Embed one text with a model of the provider, by default its first that may be used; keep and return what came.

    Of what is not set up nothing is called; then the answer's `milliseconds` is None. Raises ProviderNotFound.
    """
    provider = registry().get(name.strip().lower())
    if provider is None:
        raise ProviderNotFound(
            f"Unknown provider: {name}", param="provider", code="not_found"
        )
    test = ProviderTest(provider=provider.name, ok=False, by=by)
    try:
        if problem := provider.configuration_problem():
            test.problem = problem
        elif target := _target(provider, model):
            test.model = target.model.name
            _call(test, target, timeout_seconds)
        else:
            test.problem = NO_MODEL
    except (ServiceError, ProviderError) as error:
        test.problem = error.message
    except Exception as error:  # a third party's code may raise anything
        log.exception("provider_test_crashed", provider=provider.name)
        test.problem = f"The plug-in failed ({type(error).__name__}); the log has more."
    test.problem = test.problem[:500]
    with contextlib.suppress(DatabaseError, InterfaceError):
        _keep(test)
    return test


def latest_tests() -> dict[str, ProviderTest]:
    """Return the last test of each provider that had one."""
    last = ProviderTest.objects.order_by().values("provider").annotate(last=Max("pk"))
    rows = ProviderTest.objects.filter(pk__in=last.values("last"))
    return {row.provider: row for row in rows}


def usable_models(provider: Provider) -> list[str]:
    """Return the listed models of a provider with which it may be tried, the default model first."""
    default = default_target()
    targets = [
        Target(provider=provider, model=spec)
        for spec in registry().models(provider)
        if not spec.retired
    ]
    allowed = [one for one in targets if is_allowed(one)]
    allowed.sort(key=lambda one: not one.same_as(default))
    return [one.model.name for one in allowed]


def _target(provider: Provider, model: str | None) -> Target | None:
    name = model or next(iter(usable_models(provider)), None) or _used(provider)
    return find_target(model=name, provider=provider.name) if name else None


def _used(provider: Provider) -> str | None:
    """Return the model with which the provider answered last: in a test, else in a request."""
    tested = ProviderTest.objects.filter(provider=provider.name, ok=True).first()
    if tested is not None:
        return tested.model
    hours = UsageHour.objects.filter(hour__gte=timezone.now() - RECENT, requests__gt=0)
    rows = hours.filter(provider=provider.name).order_by("-hour")
    return rows.values_list("model", flat=True).first()


def _call(test: ProviderTest, target: Target, timeout_seconds: float) -> None:
    started = time.monotonic()
    try:
        answer = target.provider.embed(
            target.model,
            TEXTS,
            dimensions=None,
            input_type="document",
            timeout_seconds=timeout_seconds,
        )
    finally:
        test.milliseconds = round((time.monotonic() - started) * 1000)
    test.ok, test.dimensions = True, answer.vectors.shape[1]


def _keep(test: ProviderTest) -> None:
    with transaction.atomic():
        test.save()
        rows = ProviderTest.objects.filter(provider=test.provider)
        for pk in rows.values_list("pk", flat=True)[KEPT_TESTS : KEPT_TESTS + 1]:
            rows.filter(pk__lte=pk).delete()
