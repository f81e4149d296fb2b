"""Each provider with all that says whether it works: its set-up, its breaker, its last test, what it did today."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from django.conf import settings
from django.db.models import Max

from embeddings.services.breaker_states import BreakerState, breaker_states
from embeddings.services.catalog import ProviderState, list_providers
from embeddings.services.provider_tests import latest_tests
from embeddings.services.usage.report import UsageRow, usage_by_provider
from providers.addresses import (
    DEFAULT_PORTS,
    environment_name,
    key_variable,
    origin_of,
)
from providers.models import BreakerChange, ProviderSetting, ProviderTest
from providers.operator_settings import operator_settings
from providers.patterns import allows_provider
from providers.registry import registry

SHOWN_CHANGES = SHOWN_TESTS = 50
# Shorter keys would be given away by four of their characters.
LEAST_KEY_LENGTH = 16
NOTHING = UsageRow(
    group={}, requests=0, errors=0, tokens=0, cache_hits=0, cost=Decimal(0)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a provider does, in a word and a sentence. Only what was seen to work is `good`."""

    word: str
    tone: Literal["good", "warn", "bad", ""]
    sentence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderOverview:
    """One provider. `row`: what operators set, None before the first start; `address`: without path and secrets."""

    state: ProviderState
    row: ProviderSetting | None
    verdict: Verdict
    address: str
    key: str
    breaker: BreakerState
    last_change: BreakerChange | None
    last_test: ProviderTest | None
    today: UsageRow


def provider_overviews(since: datetime) -> Iterator[ProviderOverview]:
    """Yield every provider, in the registry's order; `since`: when today began. A fixed number of queries."""
    rows = {row.name: row for row in ProviderSetting.objects.all()}
    breakers = {one.provider: one for one in breaker_states()}
    changes, tests, today = _last_changes(), latest_tests(), usage_by_provider(since)
    for state in list_providers():
        name = state.name
        breaker = breakers.get(name) or BreakerState(provider=name)
        test, used = tests.get(name), today.get(name, NOTHING)
        provider = registry().get(name)
        yield ProviderOverview(
            state=state,
            row=rows.get(name),
            verdict=_verdict(state, breaker, test, used),
            address=_place(provider.address()) if provider else "",
            key=key_shown(name),
            breaker=breaker,
            last_change=changes.get(name),
            last_test=test,
            today=used,
        )


def breaker_story(provider: str) -> list[BreakerChange]:
    """Return the last changes of a provider's breaker, newest first."""
    return list(BreakerChange.objects.filter(provider=provider)[:SHOWN_CHANGES])


def past_tests(provider: str) -> list[ProviderTest]:
    """Return the last tests of a provider, newest first."""
    return list(ProviderTest.objects.filter(provider=provider)[:SHOWN_TESTS])


def set_up_problem(row: ProviderSetting) -> str | None:
    """Say what a provider's row lacks before it can be used, or None."""
    provider = registry().get(row.name)
    if provider is not None:
        return provider.configuration_problem()
    if registry().plugin(row.kind) is None:
        return "The plug-in is not installed."
    return "Just added: all processes know it within two seconds."


def key_shown(name: str) -> str:
    """Return the variable of a provider's key and its last four characters at most; keys live in the environment."""
    provider = registry().get(name)
    if provider and provider.local:
        return "—"
    options = settings.PROVIDERS.get(environment_name(name), {})
    key = options.get("api_key") or ""
    long = len(key) >= LEAST_KEY_LENGTH
    shown = f"…{key[-4:]}" if long else "set" if key else "not set"
    variable = getattr(provider, "key_variable", key_variable(name))
    return f"{variable}: {shown}"


def _place(address: str) -> str:
    """Return scheme, host and port of an address; its path and user may hold secrets."""
    origin = origin_of(address) if address else ""
    if origin is None:
        return "an address that is not plain to see"
    for scheme, port in DEFAULT_PORTS.items():
        if origin.startswith(f"{scheme}:"):
            return origin.removesuffix(f":{port}")
    return origin


def _verdict(
    state: ProviderState,
    breaker: BreakerState,
    test: ProviderTest | None,
    used: UsageRow,
) -> Verdict:
    operator = operator_settings()
    row = operator.providers.get(state.name)
    if row and not row.enabled:
        return Verdict(word="switched off", tone="", sentence="Requests are refused.")
    if not allows_provider(operator.allowed_providers, state.name):
        return Verdict(
            word="not allowed", tone="", sentence="The allowlist leaves it out."
        )
    if state.problem:
        return Verdict(word="not set up", tone="warn", sentence=state.problem)
    if breaker.state != "closed":
        return Verdict(
            word="failing" if breaker.state == "open" else "recovering",
            tone="bad" if breaker.state == "open" else "warn",
            sentence=breaker.last_error or "",
        )
    called = test is not None and test.milliseconds is not None
    if test and called and not test.ok:
        return Verdict(word="failed its test", tone="bad", sentence=test.problem)
    if called or used.requests:
        return Verdict(word="works", tone="good")
    return Verdict(
        word="not tried yet",
        tone="",
        sentence=test.problem if test else "It is set up. Test it to see it work.",
    )


def _last_changes() -> dict[str, BreakerChange]:
    last = BreakerChange.objects.order_by().values("provider").annotate(last=Max("pk"))
    rows = BreakerChange.objects.filter(pk__in=last.values("last"))
    return {row.provider: row for row in rows}
