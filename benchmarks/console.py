"""How long the console's pages take where there is much to list: `python -m benchmarks.console`.

Fills a SQLite and a PostgreSQL database (the tests' own server), serves each with `manage.py serve`, and follows the
links of the console as a browser would, to one page of each kind; lists are searched, too. Printed are the median time
of the whole answer, on a connection that stays open, and its size as it was sent. Takes ten minutes.
"""

import argparse
import contextlib
import gzip
import http.client
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urljoin, urlsplit

REPOSITORY = Path(__file__).parents[1]
QUICK = 0.02
LAPS = 7
MOST_MS, MOST_KB = 300, 150
LINK = re.compile(r'\s(?:href|hx-get)="([^"]*)"')
HAS_SEARCH = re.compile(r'<input[^>]*\sname="q"')
SEARCHES = ("?q=7", "?q=nothing-like-it")
# Of Django's addresses; what is neither one of these nor in the menu is an id.
WORDS = {"add", "change", "delete", "history", "password", "password_change"}
MENU = 'id="nav-sidebar-apps"'
SINCE = re.compile(r"&since=[\d.]+&?")  # is another in each process
CHOICES = ("period", "by", "q")  # parameters each value of which is another page


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one page cost."""

    address: str
    ms: float
    kilobytes: float

    @property
    def is_too_much(self) -> bool:
        return self.ms > MOST_MS or self.kilobytes > MOST_KB


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="a fiftieth of the rows")
    add("--fill", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        print(fill_here(options.fill))
        return
    share = QUICK if options.quick else 1.0
    _prepare_weights()
    tables = {name: measure(url, share) for name, url in _databases()}
    print("\n" + markdown(tables))
    if any(page.is_too_much for pages in tables.values() for page in pages):
        sys.exit(f"Some pages take more than {MOST_MS} ms or {MOST_KB} kB.")


def _prepare_weights() -> None:
    """Fetch what the server loads, once per machine."""
    from providers.engine.pins import DEFAULT_MODEL
    from providers.engine.vocabulary import prepare_vocabulary
    from providers.engine.weights import Weights
    from tests.environment import DATA_DIR

    Weights(DATA_DIR).prepare(DEFAULT_MODEL)
    prepare_vocabulary(DATA_DIR)


def _databases() -> Iterator[tuple[str, str]]:
    from tests.servers import PostgresServer

    with tempfile.TemporaryDirectory(prefix="console-") as folder:
        yield "SQLite", f"sqlite:///{folder}/db.sqlite3"
    server = PostgresServer()
    try:
        yield "PostgreSQL", server.create_database("console")
    finally:
        server.stop()


def markdown(tables: dict[str, list[Page]]) -> str:
    """Return one row a page: milliseconds with each database, and the size."""
    lines = [
        f"| page |{''.join(f' {name} ms |' for name in tables)} kB |",
        f"|---|{'---|' * len(tables)}---|",
    ]
    found = [{page.address: page for page in pages} for pages in tables.values()]
    for address in dict.fromkeys(address for pages in found for address in pages):
        rows = [pages.get(address) for pages in found]
        cells = "".join(f" {row.ms:.0f} |" if row else " |" for row in rows)
        largest = max(row.kilobytes for row in rows if row)
        lines.append(f"| `{address}` |{cells} {largest:.0f} |")
    return "\n".join(lines)


def measure(url: str, share: float) -> list[Page]:
    """Fill a database, serve it, and ask for the console's pages."""
    from tests.e2e.server import Server

    with tempfile.TemporaryDirectory(prefix="console-data-") as name:
        folder = Path(name)
        names = {"DATABASE_URL": url, "DATA_DIR": str(folder / "data")}
        filled = subprocess.run(  # noqa: S603  (ourselves)
            [sys.executable, "-m", "benchmarks.console", f"--fill={share}"],
            env={**os.environ, **names, "LOG_LEVEL": "error"},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        server = Server(folder, DATABASE_URL=url)
        try:
            server.wait_until_ready()
            visitor = Visitor(server.port, cookie=filled.stdout.split()[-1])
            return [timed(visitor, address) for address in addresses(visitor)]
        finally:
            server.end()


def fill_here(share: float) -> str:
    """Fill the database of this process's environment, and return the session of a superuser."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "embeddings_project.settings")
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.test import Client

    from benchmarks.console_rows import fill

    with contextlib.redirect_stdout(sys.stderr):
        call_command("migrate", verbosity=0)
        operator = fill(share)
    client = Client()
    client.force_login(operator)
    return str(client.cookies[settings.SESSION_COOKIE_NAME].value)


class Visitor:
    """Somebody who is logged in, on a connection that stays open."""

    def __init__(self, port: int, *, cookie: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = {"Cookie": f"sessionid={cookie}", "Accept-Encoding": "gzip"}

    def ask(self, address: str) -> tuple[int, bytes]:
        """Return the status, and the body as it was sent."""
        self._connection.request("GET", address, headers=self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def read(self, address: str) -> str:
        """Return a page; nothing of what is none."""
        status, body = self.ask(address)
        if status >= 400:
            sys.exit(f"{address} answers {status}.")
        is_whole = status == 200 and body.startswith(b"\x1f\x8b")
        return gzip.decompress(body).decode() if is_whole else ""


def addresses(visitor: Visitor) -> list[str]:
    """Return a page of each kind that links lead to: of several, that of the row made last, or the last of its pages.

    Of lists that can be searched, two searches.
    """
    menu = visitor.read("/admin/").partition(MENU)[2].partition("</nav>")[0]
    known = WORDS.union(*(link.split("/") for link in _links("/admin/", menu)))
    found: dict[tuple[object, ...], str] = {}
    left = ["/admin/"]
    while left:
        address = left.pop(0)
        text = visitor.read(address)
        searches = SEARCHES if HAS_SEARCH.search(text) else ()
        links = [*_links(address, text), *(address + one for one in searches)]
        for link in sorted([address, *links], key=_numbers, reverse=True):
            kind = _kind(link, known)
            if kind not in found or _numbers(link) > _numbers(found[kind]):
                found[kind] = link
                left += [link] if "?" not in link and link != "/admin/" else []
    return list(found.values())


def timed(visitor: Visitor, address: str) -> Page:
    visitor.read(address)
    times = []
    for _ in range(LAPS):
        started = time.perf_counter()
        _, body = visitor.ask(address)
        times.append((time.perf_counter() - started) * 1000)
    return Page(
        address=SINCE.sub("", address.replace("/admin/", "", 1)),
        ms=round(statistics.median(times), 1),
        kilobytes=round(len(body) / 1000, 1),
    )


def _links(address: str, text: str) -> list[str]:
    """Return where in the console a page's links lead."""
    links = (urljoin(address, unescape(link)) for link in LINK.findall(text))
    return [
        link.partition("#")[0]
        for link in links
        if link.startswith("/admin/") and "_popup=" not in link
    ]


def _kind(address: str, known: Set[str]) -> tuple[object, ...]:
    """Return what addresses have in common whose pages differ by an id, or by what is chosen in a filter."""
    parts = urlsplit(address)
    path = tuple(one if one in known else "*" for one in parts.path.split("/"))
    given = dict(parse_qsl(parts.query))
    return path, frozenset(given), *(given.get(name) for name in CHOICES)


def _numbers(address: str) -> list[int]:
    """Return the ids in an address, and the number of the page."""
    parts = urlsplit(address)
    given = dict(parse_qsl(parts.query))
    words = [*parts.path.split("/"), given.get("p", ""), given.get("page", "")]
    return [int(word) for word in words if word.isdecimal()]


if __name__ == "__main__":
    main()
