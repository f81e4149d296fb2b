"""Kill and stop the server's processes under load, one every few seconds: `python -m benchmarks.faults --minutes 5`.

Clients embed texts whose vectors are known, the cache is emptied all the time, and documents are embedded by jobs. Each
answer is compared. What the faults cost is printed as a table; with `--publish` it is written to docs/reliability.md.
"""

import argparse
import collections
import contextlib
import http.client
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.contestants import KEY, MINILM, ours
from benchmarks.corpus import short_texts
from benchmarks.fault_record import (
    ANSWERED,
    WRONG,
    Api,
    FaultRecord,
    WrongAnswer,
    listed,
    outcome_of,
    publish,
)
from benchmarks.machine import describe_machine
from benchmarks.preparation import fresh_data_folder, prepare_minilm
from benchmarks.servers import Server, state_of, title_of
from tests.servers import send

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


class Fire:
    """A server under load and fault."""

    def __init__(self, server: Server, choose: random.Random) -> None:
        self._server = server
        self._api = Api(port=server.port, key=KEY)
        self._choose = choose
        self._texts = list(short_texts(TEXTS, start=0))
        self._over = threading.Event()
        self.record = FaultRecord()
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
            paths = [f"/media/embeddings/jobs/{job}" for job in self.jobs]
            states = collections.Counter(
                self._api.call("GET", path)["status"] for path in paths
            )
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
            if PROCESSES[process] in title_of(one)
            and state_of(one) != psutil.STATUS_STOPPED
        ]
        if victims:
            self.record.strike(f"{how} of {_a(process)}")
            send(self._choose.choice(victims), SIGNALS[how])

    def _load(self) -> None:
        choose = random.Random(self._choose.random())
        while not self._over.is_set():
            number = choose.randrange(TEXTS)
            ask = partial(outcome_of, partial(self._check, number))
            if self.record.ask(ask) != ANSWERED:
                time.sleep(PROBE_SECONDS)

    def _check(self, number: int) -> None:
        vector = self._embedded(self._texts[number])
        if np.abs(vector - self._known[number]).max() > SAME:
            raise WrongAnswer

    def _embedded(self, text: str) -> NDArray[np.float32]:
        body = {"input": text, "model": f"onnx:{MINILM}"}
        answer = self._api.call("POST", "/embeddings", body, fallback="off")
        return np.array(answer["data"][0]["embedding"], dtype=np.float32)

    def _empty_cache(self) -> None:
        while not self._over.wait(0.5):
            self._quietly(partial(self._api.call, "DELETE", "/embeddings/cache"))

    def _start_jobs(self) -> None:
        number = 0
        while not self._over.wait(3.0):
            number += 1
            self._quietly(partial(self._start_job, number))

    def _start_job(self, number: int) -> None:
        words = " ".join(short_texts(CHUNKS, start=1000 + CHUNKS * number))
        document = {"title": f"document {number}", "content": words}
        item = self._api.call("POST", "/media", document)
        path = f"/media/{item['media_id']}/embeddings"
        job = self._api.call("POST", path, {"embedding_model": f"onnx:{MINILM}"})
        self.jobs.append(job["job_id"])

    @staticmethod
    def _quietly(call: Callable[[], object]) -> None:
        """What fails here is no figure: the clients' requests are."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            call()


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
        f" {machine['cores']} cores, {CLIENTS} clients.\n\n{fire.record.table()}\n\n"
        f"Wrong vectors: {fire.record.total(WRONG)}. Jobs: {len(fire.jobs)} started, {listed(jobs.items())}."
    )
    print(text)
    if options.publish:
        publish("faults", text)
    bad = {"completed"} ^ set(jobs) if jobs else set()
    sys.exit(1 if fire.record.total(WRONG) or bad else 0)


def _a(word: str) -> str:
    return f"the {word}" if word in ("engine", "worker") else f"a {word}"


if __name__ == "__main__":
    main()
