"""How long the console's pages take where there is much to list: `python -m benchmarks.console`.

Fills a SQLite and a PostgreSQL database (the tests' own server), and asks for each page of the menu, for lists
searched, narrowed and leafed through, and for a row of each, by Django's test client in one process. Printed are the
median of the server's time, the queries, and the size as browsers get it.
"""

import argparse
import contextlib
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
LAPS = 7
MOST_MS, MOST_KB = 300, 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one page cost."""

    address: str
    ms: float
    queries: int
    kilobytes: float

    @property
    def is_too_much(self) -> bool:
        return self.ms > MOST_MS or self.kilobytes > MOST_KB


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    add = parser.add_argument
    add("--share", type=float, default=1.0, help="of the rows; 1: a million of usage")
    add("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps([asdict(page) for page in measure(options.share)]))
        return
    tables = {name: _in_process(url, options.share) for name, url in _databases()}
    print("\n" + markdown(tables))
    if any(page.is_too_much for pages in tables.values() for page in pages):
        sys.exit(f"Some pages take more than {MOST_MS} ms or {MOST_KB} kB.")


def markdown(tables: dict[str, list[Page]]) -> str:
    """Return one row a page: milliseconds and queries with each database, and the size."""
    head = "".join(f" {name} ms | queries |" for name in tables)
    lines = [f"| page |{head} kB |", "|---|" + "---|---|" * len(tables) + "---|"]
    for rows in zip(*tables.values(), strict=False):
        cells = "".join(f" {page.ms:.0f} | {page.queries} |" for page in rows)
        largest = max(page.kilobytes for page in rows)
        lines.append(f"| `{rows[0].address}` |{cells} {largest:.0f} |")
    return "\n".join(lines)


def _databases() -> Iterator[tuple[str, str]]:
    from tests.servers import PostgresServer

    with tempfile.TemporaryDirectory(prefix="console-") as folder:
        yield "SQLite", f"sqlite:///{folder}/db.sqlite3"
    server = PostgresServer()
    try:
        yield "PostgreSQL", server.create_database("console")
    finally:
        server.stop()


def _in_process(url: str, share: float) -> list[Page]:
    """Measure in a process of its own, since Django has one database a process."""
    with tempfile.TemporaryDirectory(prefix="console-data-") as folder:
        names = {"DATABASE_URL": url, "DATA_DIR": folder, "LOG_LEVEL": "error"}
        answer = subprocess.run(  # noqa: S603  (ourselves)
            [sys.executable, "-m", "benchmarks.console", "--here", f"--share={share}"],
            env={**os.environ, **names},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            check=True,
        )
    return [Page(**row) for row in json.loads(answer.stdout.splitlines()[-1])]


def measure(share: float) -> list[Page]:
    """Fill this process's database and ask for all pages."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "embeddings_project.settings")
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.test import Client

    from benchmarks.console_rows import fill

    settings.ALLOWED_HOSTS.append("testserver")
    with contextlib.redirect_stdout(sys.stderr):
        call_command("migrate", verbosity=0)
        operator = fill(share)
    client = Client()
    client.force_login(operator)
    return [_ask(client, address) for address in _addresses(client)]


def _addresses(client: Any) -> Iterator[str]:
    """Yield the menu's pages; of lists also a search, a filter by time, the last page, and the first row's page."""
    from django.contrib import admin
    from django.urls import reverse

    shown = client.get("/admin/").context_data["sidebar_navigation"]
    for group in shown:
        yield from (str(item["link"]) for item in group["items"])
    for period in ("day", "week", "month"):
        yield f"/admin/?period={period}"
        yield f"/admin/usage/?by=caller&period={period}"
    for model, rows in admin.site._registry.items():
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        address = reverse(f"admin:{name}_changelist")
        if rows.search_fields:
            yield f"{address}?q=7"
            yield f"{address}?q=nothing-like-it"
        if getattr(rows, "period", ""):
            yield f"{address}?period=any"
            yield f"{address}?period=year&p=2"
        if first := model._default_manager.order_by("pk").first():
            yield reverse(f"admin:{name}_change", args=[first.pk])


def _ask(client: Any, address: str) -> Page:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as caught:
        answer = client.get(address, follow=True)
    queries = len(caught)
    times = []
    for _ in range(LAPS):
        started = time.perf_counter()
        answer = client.get(address, follow=True)
        times.append((time.perf_counter() - started) * 1000)
    if answer.status_code != 200:
        sys.exit(f"{address} answers {answer.status_code}.")
    return Page(
        address=address.replace("/admin/", "", 1),
        ms=round(statistics.median(times), 1),
        queries=queries,
        kilobytes=round(len(gzip.compress(answer.content, 6)) / 1000, 1),
    )


if __name__ == "__main__":
    main()
