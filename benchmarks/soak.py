"""A steady load for long, and what it leaves behind: `python -m benchmarks.soak --minutes 30`.

A web node behind nginx, a worker, PostgreSQL and Redis. Clients embed, search, store and delete documents, have them
embedded by jobs, make and revoke keys and look at the console, at a rate that never changes. Memory, handles, threads,
connections and the database's size are looked at every ten seconds; after the first third, none may rise. Exits with 1
where one does. With `--logs`, the samples lie there in samples.json.
"""

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
import psycopg
import redis

from benchmarks.fault_record import ANSWERED, FaultRecord, listed, publish
from benchmarks.installation import PASSWORD, Installation
from benchmarks.machine import describe_machine
from benchmarks.mixed_load import (
    Client,
    DocumentClient,
    LocalClient,
    SearchClient,
    UpstreamClient,
)
from benchmarks.preparation import prepare_minilm, say
from benchmarks.servers import Tree

EVERY_SECONDS = 10.0
# What is bounded is full within the first third: the cache, and the log of requests.
BOUNDS = {"EMBEDDINGS_CACHE_SIZE": "1000", "REQUEST_LOG_ROWS": "2000"}
# Flat: the median of the last third is above that of the second by no more than this share; of what is counted, by 2.
MOST_RISE, MOST_MORE = 0.03, 2.0
CHARTS = "the charts: minutes for three days, hours for 400"
# These keep what happened, and so grow by design: see what docs/reliability.md says of them.
KEPT = {
    "media_jobs_job": "the history of jobs",
    "embeddings_apikey": "keys, revoked ones too",
    "embeddings_auditentry": "the audit log",
    "embeddings_usagehour": "usage by hour",
    "embeddings_enduserday": "usage by day of end users",
    "embeddings_traffic": CHARTS,
    "embeddings_latencycount": CHARTS,
    "embeddings_level": CHARTS,
    "django_q_success": "django-q's last calls",
    "django_session": "sessions of the console",
}
PAGES = (
    *("", "embeddings/usagehour/", "embeddings/loggedrequest/", "embeddings/apikey/"),
    *("media_jobs/mediaitem/", "media_jobs/job/", "providers/providersetting/"),
)
LOG_IN = """
import json
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get(username="root"))
print(json.dumps(client.cookies["sessionid"].value))
"""


class KeptDocumentClient(DocumentClient):
    """Stores as many documents as it deletes."""

    keep = 20


class KeyClient(Client):
    """Makes a key, and revokes it; with a token, since keys make no keys."""

    def prepare(self) -> None:
        login = {"username": self.user, "password": PASSWORD}
        token = self.api.call("POST", "/auth/token", login)["access"]
        self.api = replace(self.api, key="", token=token)

    def call(self) -> None:
        key = self.api.call("POST", "/auth/keys", {"name": "for a moment"})
        self.api.call("DELETE", f"/auth/keys/{key['id']}")


class ConsoleClient(Client):
    """Looks at one page after another."""

    def __init__(self, user: str, installation: Installation) -> None:
        super().__init__(user, installation)
        self._cookie = installation.ask_inside(LOG_IN)
        self._number = 0

    def call(self) -> None:
        self._number += 1
        connection = http.client.HTTPConnection("127.0.0.1", self.api.port, timeout=60)
        page = f"/admin/{PAGES[self._number % len(PAGES)]}"
        connection.request("GET", page, headers={"Cookie": f"sessionid={self._cookie}"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"{page} answers {answer.status}")


# Each with the seconds between two requests.
USERS: dict[str, tuple[type[Client], float]] = {
    "local-1": (LocalClient, 0.1),
    "local-2": (LocalClient, 0.1),
    "upstream-1": (UpstreamClient, 0.1),
    "search-1": (SearchClient, 0.1),
    "documents-1": (KeptDocumentClient, 1.0),
    "keys-1": (KeyClient, 10.0),
    "root": (ConsoleClient, 1.0),
}


@dataclass(slots=True)
class Samples:
    """What was measured: name -> values, one every ten seconds."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def table(self) -> str:
        """Return a row a figure: its medians, and how a line through the last two thirds rises."""
        lines = [
            "| figure | median of the second third | of the last | slope, % an hour | flat |",
            "|---|---|---|---|---|",
        ]
        for name, values in self.values.items():
            lines.append(
                f"| {name} | {_median(values, 1):,.1f} | {_median(values, 2):,.1f}"
                f" | {100 * _slope(values):+.0f} | {'yes' if self.is_flat(name) else 'NO'} |"
            )
        return "\n".join(lines)

    def is_flat(self, name: str) -> bool:
        values = self.values[name]
        before = _median(values, 1)
        more = 0.0 if "MB" in name else MOST_MORE
        return _median(values, 2) <= before + max(before * MOST_RISE, more)

    def rising(self) -> list[str]:
        return [name for name in self.values if not self.is_flat(name)]


def _median(values: list[float], third: int) -> float:
    size = len(values) // 3
    return statistics.median(values[third * size : (third + 1) * size] or [0.0])


def _slope(values: list[float]) -> float:
    """Return the rise of a line through the last two thirds, as a share of their mean, in an hour."""
    settled = np.array(values[len(values) // 3 :])
    if len(settled) < 2 or not settled.mean():
        return 0.0
    rise = np.polyfit(np.arange(len(settled)), settled, 1)[0] / settled.mean()
    return float(rise * 3600 / EVERY_SECONDS)


class Gauges:
    """Looks at the processes and the database."""

    def __init__(self, installation: Installation) -> None:
        self._programs = {
            "node": installation.nodes[0],
            "worker": installation.workers[0],
        }
        self._database = psycopg.connect(
            host=installation.database.folder,
            user="postgres",
            dbname=installation.name,
            autocommit=True,
        )
        self._redis = redis.Redis.from_url(installation.redis.url)

    def read(self) -> dict[str, float]:
        figures: dict[str, float] = {}
        for name, program in self._programs.items():
            tree = program.server.tree
            figures[f"{name}: memory of its own, MB"] = _sum(tree, _own_bytes) / 1e6
            figures[f"{name}: handles"] = _sum(tree, psutil.Process.num_fds)
            figures[f"{name}: threads"] = _sum(tree, psutil.Process.num_threads)
        kept = sum(size for name, size in self.tables().items() if name in KEPT)
        size = self._one("SELECT pg_database_size(current_database())")
        return {
            **figures,
            "connections to PostgreSQL": self._one(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            ),
            "database without what is kept, MB": (size - kept) / 1e6,
            "Redis: memory, MB": self._redis.info("memory")["used_memory"] / 1e6,
        }

    def tables(self) -> dict[str, int]:
        """Return the bytes of each table, with its indexes."""
        rows = self._database.execute(
            "SELECT relname, pg_total_relation_size(relid) FROM pg_stat_user_tables"
        )
        return dict(rows.fetchall())

    def rows(self) -> dict[str, tuple[int, int]]:
        """Return the rows of each table, live and dead, as PostgreSQL counts them."""
        rows = self._database.execute(
            "SELECT relname, n_live_tup, n_dead_tup FROM pg_stat_user_tables"
        )
        return {name: (live, dead) for name, live, dead in rows.fetchall()}

    def _one(self, statement: str) -> float:
        row = self._database.execute(statement.encode()).fetchone()
        return float(row[0]) if row else 0.0


def _sum(tree: Tree, figure: Callable[[psutil.Process], int]) -> float:
    return tree.sum(lambda process: float(figure(process)))


def _own_bytes(process: psutil.Process) -> int:
    """Return what it has written and nobody else has.

    Without pages of files as they are on the disk: those of a model's weights are its own or not, as another process
    that reads the same file comes and goes.
    """
    return sum(part.private_dirty + part.swap for part in process.memory_maps())


def growth(before: dict[str, int], after: dict[str, int], *, hours: float) -> str:
    """Return what the tables grew by that keep what happened."""
    lines = ["| kept by design | kB at the end | kB an hour |", "|---|---|---|"]
    for what in dict.fromkeys(KEPT.values()):
        tables = [table for table in KEPT if KEPT[table] == what]
        end = sum(after.get(table, 0) for table in tables)
        grown = end - sum(before.get(table, 0) for table in tables)
        if end:
            lines.append(f"| {what} | {end / 1e3:,.0f} | {grown / hours / 1e3:,.0f} |")
    return "\n".join(lines)


def run(folder: Path, *, minutes: float) -> tuple[str, list[str]]:
    """Return the text for docs/reliability.md, and what is not flat."""
    users = [user for user in USERS if user != "root"]
    installation = Installation("soak", folder, users=users, nodes=1, more=BOUNDS)
    record, over, samples = FaultRecord(), threading.Event(), Samples()
    try:
        clients = {user: kind(user, installation) for user, (kind, _) in USERS.items()}
        for client in clients.values():
            client.prepare()
        gauges = Gauges(installation)
        say("load begins")
        for user, client in clients.items():
            client.load(record, over, pause_seconds=USERS[user][1])
        begun = time.monotonic()
        third: dict[str, int] = {}
        saved = folder / "samples.json"
        while (passed := time.monotonic() - begun) < minutes * 60:
            samples.add(gauges.read())
            saved.write_text(json.dumps([samples.values, third, gauges.tables()]))
            if not third and passed > minutes * 20:
                third = gauges.tables()
            over.wait(EVERY_SECONDS)
        after, rows = gauges.tables(), gauges.rows()
        over.set()
        for client in clients.values():
            client.join()
    finally:
        over.set()
        installation.stop()
    machine = describe_machine()
    outcomes = sum((fault.outcomes for fault in record.faults), record.faults[0].outcomes.__class__())  # fmt: skip
    dead = sum(count for _, count in rows.values())
    text = (
        f"Measured on {time.strftime('%Y-%m-%d')} for {minutes:g} minutes: {machine['processor']},"
        f" {machine['cores']} cores, load average {psutil.getloadavg()[2]:.0f},"
        f" {outcomes[ANSWERED] / minutes / 60:.0f} requests a second. Flat: the median of the"
        f" last third is at most {MOST_RISE:.0%}, or {MOST_MORE:.0f} of what is counted, above that of the second.\n\n"
        f"{samples.table()}\n\n{growth(third, after, hours=minutes / 90)}\n\n"
        f"Requests: {listed((f'{name}', count) for name, count in outcomes.items())}. Dead rows at the end: {dead:,}."
    )
    return text, samples.rising()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--logs", type=Path, help="keep the parts' logs in this folder")
    parser.add_argument(
        "--publish", action="store_true", help="write docs/reliability.md"
    )
    options = parser.parse_args()
    prepare_minilm("ours")
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = options.logs or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        text, rising = run(folder, minutes=options.minutes)
    print(text)
    if options.publish:
        publish("soak", text)
    for name in rising:
        print(f"NOT FLAT: {name}")
    sys.exit(1 if rising else 0)


if __name__ == "__main__":
    main()
