"""Jobs while processes are killed: a server, a slow upstream, and a search that watches all the while."""

import os
import re
import signal
import sys
import threading

import psutil
import requests

from media_jobs.chunking import spans
from tests import databases
from tests.e2e.server import Server, is_alive, is_called, lay_out_weights
from tests.servers import send
from tests.upstreams import Fault
from tests.upstreams.local_api import CompatibleUpstream
from tests.waiting import poll

MODEL = "local_api:slow-model"
DIMENSIONS = 16
CHUNK = {"chunk_size": 60, "chunk_overlap": 0}
SENTENCES = 300  # chunks; several batches
PROVEN_SECONDS = 60.0
# A process that stands still is given up only then.
TAKEN_UP_SECONDS = 120.0
SERVE = (sys.executable, "manage.py", "serve")
CUT_OFF = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


class SlowUpstream(CompatibleUpstream):
    """An OpenAI-compatible server that takes its time, so that there is a middle to be killed in."""

    model = "slow-model"

    def __init__(self):
        super().__init__()
        self.fault = Fault.SLOW
        self.slow_seconds = 0.4

    def answer(self, path, headers, body):
        texts, kind, _, context = super().answer(path, headers, body)
        return texts, kind, DIMENSIONS, context


class UnderFire:
    """One document whose text, and with it every chunk, changes from generation to generation."""

    def __init__(self, folder, upstream):
        self.folder, self.upstream = folder, upstream
        self.generation = 0
        self.starts = 0
        lay_out_weights(folder / "data")  # for the vocabulary that counts tokens
        self.start()
        answer = self.post("/media", title="Under fire", content=self.text())
        self.media_id = answer["media_id"]

    def start(self):
        """Start a server on the same data as before."""
        self.server = Server(
            self.folder / str(self.starts),
            data_dir=self.folder / "data",
            MEDIA_WORKERS="1",
            LOCAL_API_URL=self.upstream.base_url,
            SINGLE_USER_API_KEY="key-of-the-tests-under-fire-0123",
            command=(*SERVE, "--skip-prepare"),
        )
        self.starts += 1
        poll(self._answers, seconds=60, what="a server that answers")

    def text(self):
        return "".join(
            f"Generation {self.generation} has its sentence number {number}. "
            for number in range(SENTENCES)
        )

    def new_job(self):
        """Change the text and start a job; return its id."""
        self.generation += 1
        self.patch(f"/media/{self.media_id}", content=self.text())
        body = {"embedding_model": MODEL, **CHUNK}
        job_id: str = self.post(f"/media/{self.media_id}/embeddings", **body)["job_id"]
        return job_id

    def next_job(self):
        """Start a job and wait until it is at work; return its id."""
        job_id = self.new_job()
        poll(
            lambda: self.job(job_id)["chunks_processed"] > 0,
            seconds=PROVEN_SECONDS,
            what=f"{job_id} at work\n{self.server.output[-3000:]}",
        )
        return job_id

    def job(self, job_id):
        return self.request("GET", f"/media/embeddings/jobs/{job_id}")

    def finished(self, job_id):
        """Wait until the job has ended and return it."""

        def ended():
            try:
                job = self.job(job_id)
            except CUT_OFF:
                return None
            return job if job["status"] in ("completed", "failed") else None

        return poll(
            ended,
            seconds=PROVEN_SECONDS + TAKEN_UP_SECONDS,
            what=f"the end of {job_id}\n{self.server.output[-3000:]}",
        )

    def check_chunks(self):
        """Assert that exactly the chunks of this generation are stored, in order, each with its vector."""
        text = self.text()
        size, overlap = CHUNK.values()
        expected = [
            (index, span.start, span.end, text[span.start : span.end], 4 * DIMENSIONS)
            for index, span in enumerate(spans(text, size=size, overlap=overlap))
        ]
        length, stored = "length(vector)", "media_jobs_storedchunk chunk"
        if databases.on_postgres():
            length = "4 * vector_dims(embedding)"
            stored += " JOIN media_jobs_chunkvector ON chunk_id = chunk.id"
        rows = self.rows(
            f'SELECT "index", start, "end", text, {length} FROM {stored}'
            f' WHERE chunk.media_id = {self.media_id} ORDER BY "index"'
        )
        assert rows == expected

    def claim_pid(self, job_id):
        """Return the process that runs the job."""

        sql = f"SELECT claim, status FROM media_jobs_job WHERE public_id = '{job_id}'"

        def pid():
            ((claim, status),) = self.rows(sql)
            if status == "completed":
                return -1
            return int(claim.split(":")[1]) if claim else None

        return poll(pid, seconds=PROVEN_SECONDS, what="a claim")

    def rows(self, sql):
        return self.server.rows(sql)

    # -- processes ----------------------------------------------------------

    def child(self, title):
        """Return the child of `serve` that calls itself so."""
        root = psutil.Process(self.server.process.pid)
        return poll(
            lambda: next((c for c in root.children() if is_called(title, c)), None),
            seconds=PROVEN_SECONDS,
            what=title,
        )

    def web_worker(self):
        master = self.child("gunicorn")
        return poll(master.children, seconds=PROVEN_SECONDS, what="a web worker")[0]

    def cluster(self):
        """Return the cluster's main process."""
        supervisor = self.child("runworker")
        return poll(
            lambda: next(
                (c for c in supervisor.children() if is_called("qcluster", c)), None
            ),
            seconds=PROVEN_SECONDS,
            what="a cluster",
        )

    def sentinel(self):
        return poll(self.cluster().children, seconds=PROVEN_SECONDS, what="sentinel")[0]

    def everything(self):
        root = psutil.Process(self.server.process.pid)
        return [root, *root.children(recursive=True)]

    def fire(self, target, job_id):
        """Kill -9 what `target` names, or have it stand still."""
        if target == "hung task worker":
            if (pid := self.claim_pid(job_id)) > 0:
                os.kill(pid, signal.SIGSTOP)
        elif target == "task worker":
            if (pid := self.claim_pid(job_id)) > 0:  # it may have ended already
                os.kill(pid, signal.SIGKILL)
        elif target == "cluster group":
            os.killpg(self.cluster().pid, signal.SIGKILL)
        elif target == "everything":
            for process in self.everything():
                send(process, signal.SIGKILL)
            self.server.process.wait(20)
            self.start()
        else:
            process = {
                "web worker": self.web_worker,
                "cluster parent": self.cluster,
                "sentinel": self.sentinel,
                "supervisor": lambda: self.child("runworker"),
            }[target]()
            send(process, signal.SIGKILL)

    def end(self):
        """Leave nothing behind."""
        processes = self.everything() if is_alive_pid(self.server.process.pid) else []
        for process in processes:
            send(process, signal.SIGKILL)
        self.server.process.wait(20)

    # -- requests -----------------------------------------------------------

    def request(self, method, path, **body):
        answer = requests.request(
            method,
            self.server.api + path,
            json=body or None,
            headers=self.server.headers,
            timeout=60,
        )
        assert answer.ok, answer.text
        return answer.json()

    def post(self, path, **body):
        return self.request("POST", path, **body)

    def patch(self, path, **body):
        return self.request("PATCH", path, **body)

    def _answers(self):
        assert self.server.process.poll() is None, self.server.output
        try:
            return requests.get(f"{self.server.url}/healthz", timeout=30).ok
        except requests.ConnectionError:
            return False


class Watch:
    """Search without pause; every answer must be of one generation, whole, and never go back to an older one."""

    def __init__(self, fire):
        self._fire = fire
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers = 0
        self.problems = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._stop.set()
        self._thread.join(60)

    def _run(self):
        last = 0
        while not self._stop.wait(0.2):
            try:
                answer = self._fire.post(
                    "/media/embeddings/search", query="sentence", top_k=100
                )
            except (*CUT_OFF, requests.Timeout):
                continue
            except AssertionError as error:
                self.problems.append(str(error))
                continue
            seen = {
                int(re.findall(r"\AGeneration (\d+) ", row["text"])[0])
                for row in answer["results"]
            }
            self.answers += 1
            if len(seen) > 1 or (seen and min(seen) < last):
                self.problems.append(f"generations {seen} after {last}")
            if seen and answer["count"] != 100:
                self.problems.append(f"{answer['count']} of 100 results")
            last = max(seen, default=last)


def is_alive_pid(pid):
    try:
        return is_alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False
