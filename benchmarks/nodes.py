"""Faults of several nodes under load: `python -m benchmarks.nodes --minutes 10`.

Two web nodes behind nginx, two workers, PostgreSQL, Redis and two upstreams. One after another, in an order that the
seed draws, each of their processes is killed or held still, and brought back. Every answer is compared; at the end the
jobs and the usage are counted. Exits with 1 where something is not as docs/reliability.md promises.
"""

import argparse
import itertools
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from benchmarks.fault_record import (
    ANSWERED,
    BUSY,
    CUT_OFF,
    WRONG,
    Fault,
    FaultRecord,
    listed,
    publish,
)
from benchmarks.installation import (
    FLUSH_SECONDS,
    Installation,
    Part,
    Program,
    wait_until,
)
from benchmarks.machine import describe_machine
from benchmarks.mixed_load import (
    CHUNK_SIZE,
    KINDS,
    CacheClient,
    Client,
    DocumentClient,
    LongDocumentClient,
    SearchClient,
)
from benchmarks.preparation import prepare_minilm, say
from benchmarks.servers import hold, let_go
from tests.servers import send

USERS = (
    *("local-1", "local-2", "local-3", "upstream-1", "upstream-2"),
    *("search-1", "search-2", "documents-1", "long-1"),
)
ASK_SECONDS = 0.03
PAUSE_SECONDS: dict[type[Client], float] = {
    CacheClient: 1.0,
    DocumentClient: 1.0,
    LongDocumentClient: 3.0,
}
AWAY_SECONDS = (3.0, 8.0)  # for which what was killed is not there
HELD_SECONDS = (5.0, 15.0)
SETTLE_SECONDS = 5.0  # more than one flush
OVER_SECONDS = 120.0  # a breaker alone takes 60
JOBS_END_SECONDS = 300.0
CHECK = """
import json
from media_jobs.chunking import spans
from media_jobs.models import Job, MediaItem, StoredChunk
problems = []
for item in MediaItem.objects.exclude(jobs=None):
    jobs = item.jobs.count()
    if jobs != 1:
        problems.append(f"document {{item.pk}} has {{jobs}} jobs")
    due = [item.content[span.start:span.end] for span in spans(item.content, size={chunk_size}, overlap=0)]
    stored = StoredChunk.objects.filter(media=item).order_by("index").values_list("index", "text")
    if list(stored) != list(enumerate(due)) or item.embedding_count != len(due):
        problems.append(f"document {{item.pk}} has other chunks than its text")
for job in Job.objects.exclude(status="completed"):
    problems.append(f"job {{job.pk}} is {{job.status}}: {{job.error}} {{job.waiting_reason}}")
print(json.dumps(problems))
"""
USAGE = """
import json
from django.db.models import Sum
from embeddings.models import UsageHour
rows = UsageHour.objects.values("username").annotate(sum=Sum("requests"))
print(json.dumps({row["username"]: row["sum"] for row in rows}))
"""


class Faults:
    """Strikes one part after another."""

    def __init__(
        self, installation: Installation, record: FaultRecord, choose: random.Random
    ) -> None:
        self._installation, self._record, self._choose = installation, record, choose

    def run(self, *, seconds: float) -> None:
        """Strike for so long: every kind once, in any order, then again."""
        end = time.monotonic() + seconds
        for kind in self._kinds():
            if time.monotonic() > end:
                return
            say(kind)
            fault = self._record.strike(kind)
            is_over = self._strike(kind)
            fault.back_at = time.monotonic()
            wait_until(is_over, what=f"the end of {kind}", seconds=OVER_SECONDS)
            fault.over_at = time.monotonic()
            time.sleep(SETTLE_SECONDS)
            say(f"  {dict(fault.outcomes)} recovery {fault.recovery_seconds:.1f} s")

    def _kinds(self) -> Iterator[str]:
        kinds = [
            *(f"{how} of {what}" for how in ("kill -9", "SIGSTOP") for what in PARTS),
            *(f"kill -9 of {what}" for what in (*PROCESSES, BACKEND)),
            *(f"SIGSTOP of {what}" for what in PROCESSES if what != "a job process"),
            "immediate stop of PostgreSQL",
        ]
        while True:
            self._choose.shuffle(kinds)
            yield from kinds

    def _strike(self, kind: str) -> Callable[[], bool]:
        """Strike, and bring back what does not come back itself. Return whether all is as before."""
        how, _, what = kind.partition(" of ")
        if what in PROCESSES:
            return self._strike_process(how, what)
        if what == BACKEND:
            backends = self._installation.database.processes()[1:]
            send(self._choose.choice(backends), signal.SIGKILL)
            return self._installation.is_well
        part: Part = self._choose.choice(PARTS[what](self._installation))
        if how == "SIGSTOP":
            held = part.processes()
            hold(held)
            time.sleep(self._choose.uniform(*HELD_SECONDS))
            let_go(held)
        else:
            end = self._installation.database.shut_down if how != "kill -9" else part.kill  # fmt: skip
            end()
            time.sleep(self._choose.uniform(*AWAY_SECONDS))
            part.start()
        if what == "an upstream":
            return self._installation.upstreams_are_well
        return self._installation.is_well

    def _strike_process(self, how: str, what: str) -> Callable[[], bool]:
        programs, title = PROCESSES[what]
        program: Program = self._choose.choice(programs(self._installation))
        before = program.find(title)
        victim = self._choose.choice(before)
        send(victim, signal.SIGKILL if how == "kill -9" else signal.SIGSTOP)

        def is_replaced() -> bool:
            now = program.find(title)
            replaced = victim not in now and len(now) >= len(before)
            return replaced and self._installation.is_well()

        return is_replaced


def _nodes(installation: Installation) -> list[Program]:
    return installation.nodes


def _workers(installation: Installation) -> list[Program]:
    return installation.workers


BACKEND = "one process of PostgreSQL"
PARTS: dict[str, Callable[[Installation], list[Part]]] = {
    "a node": lambda installation: [*installation.nodes],
    "a worker": lambda installation: [*installation.workers],
    "an upstream": lambda installation: [*installation.upstreams],
    "Redis": lambda installation: [installation.redis],
    "PostgreSQL": lambda installation: [installation.database],
}
PROCESSES: dict[str, tuple[Callable[[Installation], list[Program]], str]] = {
    "a web process": (_nodes, "gunicorn: worker"),
    "an engine": (_nodes, "embeddings: engine"),
    "a job process": (_workers, "qcluster"),
}
# What may take requests along, and what was counted of others since the last write.
TAKES_REQUESTS = (" of a node", " of a web process")


def usage_problems(
    stored: dict[str, int], clients: list[Client], faults: list[Fault], *, tries: int
) -> Iterator[str]:
    """Yield whose usage is beyond the bound.

    Lost at most: what was answered since the last write before a fault that ends web processes. Too much at most: what
    failed for its client and may have been done, and what nginx sent twice.
    """
    windows = [*_unwritten(faults)]
    for client in clients:
        if _has_jobs(client):
            continue  # they count, too
        answered = len(client.answered)
        lost = sum(
            any(begin <= at <= end for begin, end in windows) for at in client.answered
        )
        counted = stored.get(client.user, 0)
        say(
            f"usage of {client.user}: {answered} answered, {counted} stored"
            f" (bound: {answered - lost} to {answered + client.unsure + tries})"
        )
        if not answered - lost <= counted <= answered + client.unsure + tries:
            yield f"usage of {client.user}: {answered} answered, {counted} stored"


def _has_jobs(client: Client) -> bool:
    return isinstance(client, DocumentClient) and not isinstance(client, SearchClient)


def _unwritten(faults: list[Fault]) -> Iterator[tuple[float, float]]:
    """Yield from when to when what was answered may not be stored."""
    for before, fault in itertools.pairwise(faults):
        if fault.name.endswith(TAKES_REQUESTS):
            begin = fault.at - FLUSH_SECONDS - 1
            if (before.over_at or 0) > begin:  # it may have kept the database away
                begin = before.at - FLUSH_SECONDS - 1
            yield begin, (fault.back_at or fault.at) + 1


def problems(
    installation: Installation, record: FaultRecord, clients: list[Client]
) -> Iterator[str]:
    """Yield what is not as it was promised."""
    for fault in record.faults:
        if fault.others:
            yield f"{fault.name}: {listed(fault.others.items())}"
        if fault.late:
            yield f"{fault.name}: {fault.late} requests failed after it was over"
        most = len(clients) if fault.name.endswith(TAKES_REQUESTS) else 0
        if fault.outcomes[CUT_OFF] > most:
            yield f"{fault.name}: {fault.outcomes[CUT_OFF]} requests were cut off"
    for client in clients:
        # Who searches has found its own all the while, and its usage is counted.
        if isinstance(client, DocumentClient) and _has_jobs(client):
            yield from client.wrong_documents()
    yield from installation.ask_inside(CHECK.format(chunk_size=CHUNK_SIZE))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--logs", type=Path, help="keep the parts' logs in this folder")
    parser.add_argument(
        "--publish", action="store_true", help="write docs/reliability.md"
    )
    options = parser.parse_args()
    prepare_minilm("ours")
    with tempfile.TemporaryDirectory(prefix="nodes-") as name:
        folder = options.logs or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        text, found = run(
            folder, minutes=options.minutes, choose=random.Random(options.seed)
        )
    print(text)
    if options.publish:
        publish("nodes", text)
    for problem in found:
        print(f"BROKEN: {problem}")
    sys.exit(1 if found else 0)


def run(
    folder: Path, *, minutes: float, choose: random.Random
) -> tuple[str, list[str]]:
    """Return the text for docs/reliability.md, and what is broken."""
    installation = Installation("nodes", folder, users=[*USERS])
    record, over = FaultRecord(), threading.Event()
    try:
        clients = [KINDS[user.partition("-")[0]](user, installation) for user in USERS]
        for client in clients:
            client.prepare()
        time.sleep(FLUSH_SECONDS + 1)
        before = installation.ask_inside(USAGE)
        say("load begins")
        record.faults[0].at = time.monotonic()
        for client in clients:
            seconds = PAUSE_SECONDS.get(type(client), ASK_SECONDS)
            client.load(record, over, pause_seconds=seconds)
        emptying = CacheClient("root", installation)
        emptying.load(record, over, pause_seconds=PAUSE_SECONDS[CacheClient])
        time.sleep(SETTLE_SECONDS)
        Faults(installation, record, choose).run(seconds=minutes * 60)
        over.set()
        for client in (*clients, emptying):
            client.join()
        say("jobs end")
        for client in clients:
            if isinstance(client, DocumentClient):
                client.wait_for_jobs(seconds=JOBS_END_SECONDS)
        found = [*problems(installation, record, [*clients, emptying])]
        installation.stop_programs()
        tries = installation.sent_twice()
        stored = {
            user: count - before.get(user, 0)
            for user, count in installation.ask_inside(USAGE).items()
        }
        found += usage_problems(stored, clients, record.faults, tries=tries)
    finally:
        over.set()
        installation.stop()
    text = summary(record, clients, stored, minutes=minutes, tries=tries, found=found)
    return text, found


def summary(
    record: FaultRecord,
    clients: list[Client],
    stored: dict[str, int],
    *,
    minutes: float,
    tries: int,
    found: list[str],
) -> str:
    machine = describe_machine()
    documents = [c for c in clients if isinstance(c, DocumentClient)]
    counted = [client for client in clients if not _has_jobs(client)]
    answered = sum(len(client.answered) for client in counted)
    return (
        f"Measured on {time.strftime('%Y-%m-%d')} for {minutes:g} minutes: {machine['processor']},"
        f" {machine['cores']} cores for all parts and {len(clients)} clients,"
        f" load average {psutil.getloadavg()[2]:.0f}.\n\n{record.table()}\n\n"
        f"Requests: {record.total(ANSWERED):,} answered, {record.total(WRONG)} with a wrong vector or hit,"
        f" {record.total(BUSY):,} refused with 503, {record.total(CUT_OFF)} cut off; nginx sent {tries} to the other"
        f" node. Jobs: {sum(len(c.jobs) for c in documents)}. Usage: {answered:,} answered,"
        f" {sum(stored.get(c.user, 0) for c in counted):,} stored. Not as promised: {'; '.join(found) or 'nothing'}."
    )


if __name__ == "__main__":
    main()
