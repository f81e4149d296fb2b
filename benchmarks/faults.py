"""Kill and stop the server's processes under load, one every few seconds: `python -m benchmarks.faults --minutes 5`.

Clients embed texts whose vectors are known, the cache is emptied all the time, and documents are embedded by jobs. Each
answer is compared. What the faults cost is printed as a table; with `--publish` it is written to docs/reliability.md.
"""

import argparse
import collections
import contextlib
import http.client
import json
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.contestants import KEY, MINILM, REPOSITORY, ours
from benchmarks.corpus import short_texts
from benchmarks.machine import describe_machine
from benchmarks.preparation import fresh_data_folder, prepare_minilm
from benchmarks.servers import Server

PAGE = REPOSITORY / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->\n", "<!-- faults: end -->"
CLIENTS = 12
TEXTS = 300
CHUNKS = 20
PAUSE_SECONDS = (2.0, 6.0)
PROBE_SECONDS = 0.05
SAME = 1e-5
PROCESSES = {
    "engine": "embeddings: engine",
    "web process": "gunicorn: worker",
    "worker": "embeddings: runworker",
    "job process": "qcluster",
}
SIGNALS = {"kill -9": signal.SIGKILL, "SIGSTOP": signal.SIGSTOP}


@dataclass(slots=True)
class Fault:
    """One fault, and what the requests met that were under way until the next one."""

    name: str
    at: float
    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    longest_seconds: float = 0.0
    last_error_at: float | None = None

    @property
    def recovery_seconds(self) -> float:
        """How long after it the last request failed that began before it was over; 0 where none did."""
        return 0.0 if self.last_error_at is None else self.last_error_at - self.at


class Fire:
    """A server under load and fault."""

    def __init__(self, server: Server, choose: random.Random) -> None:
        self._server = server
        self._choose = choose
        self._texts = list(short_texts(TEXTS, start=0))
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.faults = [Fault("none", time.monotonic())]
        self.wrong = 0
        self.jobs: list[str] = []
        self._known = [self._embedded(text) for text in self._texts]

    def run(self, seconds: float) -> None:
        """Load the server for so long, with a fault every few seconds."""
        threads = [threading.Thread(target=self._load) for _ in range(CLIENTS)]
        threads += [
            threading.Thread(target=self._empty_cache),
            threading.Thread(target=self._start_jobs),
        ]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self._choose.uniform(*PAUSE_SECONDS))
            self._strike()
        time.sleep(15.0)  # whatever was hit last is back by then
        self._over.set()
        for thread in threads:
            thread.join()

    def finished_jobs(self, *, within_seconds: float) -> collections.Counter[str]:
        """Return how many jobs ended how."""
        deadline = time.monotonic() + within_seconds
        while time.monotonic() < deadline:
            states = collections.Counter(self._job(job)["status"] for job in self.jobs)
            if not states["queued"] + states["processing"]:
                break
            time.sleep(1.0)
        return states

    def _strike(self) -> None:
        process = self._choose.choice([*PROCESSES])
        how = self._choose.choice([*SIGNALS])
        victims = [
            one
            for one in self._server.tree.processes()
            if PROCESSES[process] in _title(one) and one.status() != "stopped"
        ]
        if victims:
            with self._lock:
                self.faults.append(Fault(f"{how} of {_a(process)}", time.monotonic()))
            self._choose.choice(victims).send_signal(SIGNALS[how])

    def _load(self) -> None:
        choose = random.Random(self._choose.random())
        while not self._over.is_set():
            number = choose.randrange(TEXTS)
            with self._lock:
                fault = self.faults[-1]
            began = time.monotonic()
            outcome = self._outcome(number)
            ended = time.monotonic()
            with self._lock:
                if outcome != "200":  # it is of the fault that struck meanwhile
                    fault = self.faults[-1]
                    fault.last_error_at = ended
                fault.outcomes[outcome] += 1
                fault.longest_seconds = max(fault.longest_seconds, ended - began)
            if outcome != "200":
                time.sleep(PROBE_SECONDS)

    def _outcome(self, number: int) -> str:
        try:
            vector = self._embedded(self._texts[number])
        except urllib.error.HTTPError as error:
            waits = error.headers.get("Retry-After")
            return f"{error.code}" if waits else f"{error.code} without Retry-After"
        except (OSError, http.client.HTTPException):
            return "cut off"
        if np.abs(vector - self._known[number]).max() > SAME:
            self.wrong += 1
        return "200"

    def _embedded(self, text: str) -> NDArray[np.float32]:
        body = {"input": text, "model": f"onnx:{MINILM}"}
        answer = self._call("POST", "/embeddings", body, fallback="off")
        return np.array(answer["data"][0]["embedding"], dtype=np.float32)

    def _empty_cache(self) -> None:
        while not self._over.wait(0.5):
            self._quietly(partial(self._call, "DELETE", "/embeddings/cache"))

    def _start_jobs(self) -> None:
        number = 0
        while not self._over.wait(3.0):
            number += 1
            self._quietly(partial(self._start_job, number))

    def _start_job(self, number: int) -> None:
        words = " ".join(short_texts(CHUNKS, start=1000 + CHUNKS * number))
        item = self._call(
            "POST", "/media", {"title": f"document {number}", "content": words}
        )
        path = f"/media/{item['media_id']}/embeddings"
        job = self._call("POST", path, {"embedding_model": f"onnx:{MINILM}"})
        self.jobs.append(job["job_id"])

    def _job(self, job: str) -> dict[str, Any]:
        return self._call("GET", f"/media/embeddings/jobs/{job}")

    @staticmethod
    def _quietly(call: Callable[[], object]) -> None:
        """What fails here is no figure: the clients' requests are."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            call()

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        fallback: str = "any",
    ) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._server.port}/api/v1{path}",
            method=method,
            data=json.dumps(body).encode() if body else None,
            headers={
                "X-API-KEY": KEY,
                "Content-Type": "application/json",
                "X-Embeddings-Fallback": fallback,
            },
        )
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
            read: dict[str, Any] = json.load(answer)
            return read


def table(fire: Fire) -> str:
    """Return what each kind of fault cost, as Markdown."""
    kinds: dict[str, list[Fault]] = collections.defaultdict(list)
    for fault in fire.faults:
        kinds[fault.name].append(fault)
    lines = [
        (
            "| fault | times | answered | cut off | 503 with Retry-After | other errors"
            " | longest request s | recovery s, median and longest |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, faults in sorted(kinds.items()):
        sums = sum((fault.outcomes for fault in faults), collections.Counter[str]())
        others = {k: n for k, n in sums.items() if k not in ("200", "cut off", "503")}
        recovery = [fault.recovery_seconds for fault in faults]
        lines.append(
            f"| {name} | {len(faults)} | {sums['200']:,} | {sums['cut off']} | {sums['503']}"
            f" | {', '.join(f'{k}: {n}' for k, n in others.items()) or 'none'}"
            f" | {max(fault.longest_seconds for fault in faults):.1f}"
            f" | {statistics.median(recovery):.1f}, {max(recovery):.1f} |"
        )
    return "\n".join(lines)


def publish(text: str) -> None:
    """Write the table between its marks in docs/reliability.md."""
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{text}\n\n{END}{rest.split(END)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--publish", action="store_true", help="write docs/reliability.md"
    )
    options = parser.parse_args()
    prepare_minilm("ours")
    contestant = ours(
        "faults",
        "this server",
        fresh_data_folder("faults"),
        model=f"onnx:{MINILM}",
    )
    with tempfile.TemporaryDirectory() as folder:
        server = contestant.start(Path(folder))
        try:
            server.wait_until(contestant.answers, pause_seconds=0.2)
            time.sleep(3.0)  # the worker starts after the server
            fire = Fire(server, random.Random(options.seed))
            fire.run(options.minutes * 60)
            jobs = fire.finished_jobs(within_seconds=300)
        finally:
            server.stop()
    machine = describe_machine()
    text = (
        f"Measured on {time.strftime('%Y-%m-%d')} for {options.minutes:g} minutes: {machine['processor']},"
        f" {machine['cores']} cores, {CLIENTS} clients.\n\n{table(fire)}\n\n"
        f"Wrong vectors: {fire.wrong}. Jobs: {len(fire.jobs)} started, "
        + ", ".join(f"{count} {state}" for state, count in jobs.items())
        + "."
    )
    print(text)
    if options.publish:
        publish(text)
    bad = {"completed"} ^ set(jobs) if jobs else set()
    sys.exit(1 if fire.wrong or bad else 0)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _a(word: str) -> str:
    return f"the {word}" if word in ("engine", "worker") else f"a {word}"


if __name__ == "__main__":
    main()
