"""Tell which providers work."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from embeddings.services.catalog import list_providers, unknown_names
from embeddings.services.provider_tests import try_provider
from providers.models import ProviderTest

COLUMNS = ("provider", "configured", "reachable", "model", "latency")


def cells(test: ProviderTest, *, configured: bool) -> tuple[str, ...]:
    """Return one provider's row; what is not set up was not called."""
    called = test.milliseconds is not None
    return (
        test.provider,
        "yes" if configured else "no",
        ("yes" if test.ok else "no") if called else "-",
        test.model or "-",
        f"{test.milliseconds} ms" if test.ok else "-",
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
        wanted = [one for one in states if not providers or one.name in providers]
        tests = [
            try_provider(one.name, by="manage.py", timeout_seconds=timeout)
            for one in wanted
        ]
        rows = [
            COLUMNS,
            *(
                cells(test, configured=state.problem is None)
                for state, test in zip(wanted, tests, strict=True)
            ),
        ]
        widths = [
            max(len(row[column]) for row in rows) for column in range(len(COLUMNS))
        ]
        for row in rows:
            self.stdout.write(
                "  ".join(
                    cell.ljust(width) for cell, width in zip(row, widths, strict=True)
                ).rstrip()
            )
        for test in tests:
            if test.problem:
                self.stdout.write(f"{test.provider}: {test.problem}")
        for _, sentence in unknown_names():
            self.stdout.write(sentence)
        if any(not test.ok and test.milliseconds is not None for test in tests):
            raise CommandError("Not every configured provider can be reached.")
