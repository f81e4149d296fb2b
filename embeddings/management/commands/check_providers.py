"""Tell which providers work."""

import time
from argparse import ArgumentParser
from dataclasses import dataclass
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from embeddings.services.catalog import ProviderState, list_providers, unknown_names
from providers.exceptions import ProviderError

COLUMNS = ("provider", "configured", "reachable", "model", "latency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One provider's row. `reachable` is None where nothing was called."""

    state: ProviderState
    model: str | None = None
    reachable: bool | None = None
    seconds: float | None = None
    problem: str | None = None

    def cells(self) -> tuple[str, ...]:
        reachable = {None: "-", True: "yes", False: "no"}[self.reachable]
        latency = "-" if self.seconds is None else f"{self.seconds * 1000:.0f} ms"
        return (
            self.state.name,
            "no" if self.state.problem else "yes",
            reachable,
            self.model or "-",
            latency,
        )


class Command(BaseCommand):
    help = "Embed one text with each configured provider, past the circuit breakers; a table. Costs a few tokens."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "providers", nargs="*", metavar="PROVIDER", help="these only"
        )
        parser.add_argument(
            "--timeout",
            type=float,
            default=10.0,
            metavar="SECONDS",
            help="for each (default: 10)",
        )

    def handle(self, *, providers: list[str], timeout: float, **options: Any) -> None:
        states = list(list_providers())
        if unknown := set(providers) - {state.name for state in states}:
            raise CommandError(f"Unknown provider: {', '.join(sorted(unknown))}")
        checks = [
            self._check(state, timeout)
            for state in states
            if not providers or state.name in providers
        ]
        rows = [COLUMNS, *(check.cells() for check in checks)]
        widths = [
            max(len(row[column]) for row in rows) for column in range(len(COLUMNS))
        ]
        for row in rows:
            self.stdout.write(
                "  ".join(
                    cell.ljust(width) for cell, width in zip(row, widths, strict=True)
                ).rstrip()
            )
        for check in checks:
            if check.problem:
                self.stdout.write(f"{check.state.name}: {check.problem}")
        for _, sentence in unknown_names():
            self.stdout.write(sentence)
        if any(check.reachable is False for check in checks):
            raise CommandError("Not every configured provider can be reached.")

    @staticmethod
    def _check(state: ProviderState, timeout_seconds: float) -> Check:
        if state.problem:
            return Check(state=state, problem=state.problem)
        usable = [
            model.target
            for model in state.models
            if model.allowed and not model.target.model.retired
        ]
        if not usable:
            return Check(
                state=state, problem="It lists no model to try; add one in the console."
            )
        first, started = usable[0], time.monotonic()
        try:
            first.provider.warm_up(first.model, timeout_seconds=timeout_seconds)
        except ProviderError as error:
            return Check(
                state=state, model=first.model.name, reachable=False, problem=str(error)
            )
        return Check(
            state=state,
            model=first.model.name,
            reachable=True,
            seconds=time.monotonic() - started,
        )
