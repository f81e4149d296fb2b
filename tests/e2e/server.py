"""A real server: started with `manage.py serve`, watched as a session of processes, stopped by a signal."""

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import psutil
import requests
from dotenv import dotenv_values
from prometheus_client.parser import text_string_to_metric_families

from tests import databases
from tests.environment import DATA_DIR as TEST_DATA
from tests.servers import send
from tests.waiting import poll

REPOSITORY = Path(__file__).parents[2]
MODEL = "huggingface:sentence-transformers/all-MiniLM-L6-v2"
START_SECONDS = 180.0  # two or three on an idle machine
PORTS_A_WORKER = 2_000  # at most eight workers, as pyproject.toml says
STOP_SECONDS = 120.0  # gunicorn's graceful timeout is 30
# Nothing listens there: whatever would leave the machine is refused at once.
NOWHERE = "http://127.0.0.1:9"


def free_port() -> int:
    """Return a port of this test worker's own range, below those that the system hands out by itself."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        # From 11,000 on: browsers and fetch() refuse 10080.
        port = 11_000 + PORTS_A_WORKER * worker + secrets.randbelow(PORTS_A_WORKER)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def lay_out_weights(data_dir: Path) -> None:
    """Link what was prepared once per machine into `data_dir`, so that a start has nothing to fetch."""
    for folder in ("prepared", "tiktoken"):
        for source in (TEST_DATA / folder).rglob("*"):
            target = data_dir / source.relative_to(TEST_DATA)
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    target.hardlink_to(source)
                except OSError:  # another file system
                    target.write_bytes(source.read_bytes())


def clean_environment(
    *, home: Path, data_dir: Path, port: int, **changes: str
) -> dict[str, str]:
    """Return the environment of a user who has set nothing but where to serve; a `.env` beside manage.py is masked.

    Where the tests' state is in PostgreSQL and Redis, so is that of a server, at what was opened for its folder.
    """
    return {
        **dict.fromkeys(dotenv_values(REPOSITORY / ".env"), ""),
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "DATA_DIR": str(data_dir),
        "PORT": str(port),
        "HF_ENDPOINT": NOWHERE,
        **databases.stores_of(data_dir),
        **changes,
    }


def manage(
    data_dir: Path, *words: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of the server on its own, for this data folder, and return how it ended and what it wrote."""
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=REPOSITORY,
        env=clean_environment(
            home=data_dir, data_dir=data_dir, port=8000, **environment
        ),
        capture_output=True,
        text=True,
        timeout=120,
    )


class Server:
    """One server and its processes. `folder` holds its output and, unless it is given, its data.

    These begin with a copy of `database`, if one is given: migrations take a second.
    """

    not_ended: ClassVar["set[Server]"] = set()

    def __init__(
        self,
        folder: Path,
        *,
        data_dir: Path | None = None,
        database: Path | None = None,
        command: tuple[str, ...] = (sys.executable, "manage.py", "serve"),
        cwd: Path = REPOSITORY,
        **environment: str,
    ) -> None:
        self.not_ended.add(self)
        self.folder = folder
        self.data_dir = data_dir or folder / "data"
        self.port = int(environment.pop("PORT", "0")) or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = f"{self.url}/api/v1"
        self.out, self.err = folder / "out.txt", folder / "err.txt"
        self._given_key = environment.get("SINGLE_USER_API_KEY")
        # Most tests need no worker beside the server; those of jobs ask for one.
        environment.setdefault("MEDIA_WORKERS", "0")
        folder.mkdir(parents=True, exist_ok=True)
        if data_dir is None:
            lay_out_weights(self.data_dir)
            if database and not databases.on_postgres():
                shutil.copy(database, self.data_dir)
        if "DATABASE_URL" not in environment:
            databases.open_stores(self.data_dir, migrated=database is not None)
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=clean_environment(
                    home=folder,
                    data_dir=self.data_dir,
                    port=self.port,
                    **environment,
                ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def key(self) -> str:
        return self._given_key or (self.data_dir / "api_key").read_text().strip()

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-KEY": self.key}

    @property
    def output(self) -> str:
        """Everything the server wrote so far."""
        return self.out.read_text() + self.err.read_text()

    def wait_until_ready(self) -> "Server":
        poll(self._ready, seconds=START_SECONDS, what=f"ready\n{self.output[-2000:]}")
        return self

    def wait_for_refusal(self) -> str:
        """Wait until the server has given up starting and return what it wrote. Fails if it exits with 0."""
        code = self.process.wait(START_SECONDS)
        assert code != 0, self.output
        poll(lambda: not self.members(), seconds=STOP_SECONDS, what="no process left")
        return self.output

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal to the server's group, as Ctrl-C in a terminal does, and return the exit code."""
        os.killpg(self.process.pid, number)
        return self.process.wait(STOP_SECONDS)

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        self.not_ended.discard(self)
        for process in self.members():
            send(process, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def members(self) -> list[psutil.Process]:
        """Return the living processes of the session, and of the worker's cluster, which has one of its own."""
        sessions = {self.process.pid, self._cluster()}
        return [
            process
            for process in psutil.process_iter()
            if session_of(process) in sessions and is_alive(process)
        ]

    def workers(self) -> list[psutil.Process]:
        """Return the processes that answer requests: gunicorn's children."""
        root = psutil.Process(self.process.pid)
        family = (root, *root.children())
        master = next((p for p in family if is_called("gunicorn: master", p)), None)
        if master is None:
            return []
        return [child for child in master.children() if is_alive(child)]

    def engine(self) -> psutil.Process | None:
        """Return the process that runs the models, if there is one now."""
        children = psutil.Process(self.process.pid).children()
        return next((p for p in children if is_called("embeddings: engine", p)), None)

    def resident_bytes(self) -> int:
        """Return the memory of all its processes; pages that several processes share are counted once (PSS)."""
        return sum(proportional_set_size(process) for process in self.members())

    def post(
        self, body: Mapping[str, Any], *, path: str = "/embeddings", **headers: str
    ) -> requests.Response:
        return requests.post(
            self.api + path,
            json=body,
            headers={**self.headers, **headers},
            timeout=120,
        )

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(
            self.url + path, headers={**self.headers, **headers}, timeout=60
        )

    def embed(
        self, texts: list[str], *, session: requests.Session | None = None
    ) -> list[list[float]]:
        """Return the local model's vectors of `texts`."""
        answer = (session or requests).post(
            f"{self.api}/embeddings",
            json={"input": texts, "model": MODEL},
            headers=self.headers,
            timeout=120,
        )
        assert answer.status_code == 200, answer.text
        return [item["embedding"] for item in answer.json()["data"]]

    def connect(self) -> http.client.HTTPConnection:
        """Return a plain connection, for requests that no well-behaved client sends."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the server's log; a line that is still being written is left out."""
        whole = self.err.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def errors(self) -> str:
        """Return what the log holds of errors, to be shown by a test that fails."""
        lines = self.log_lines()
        return "".join(f"\n{line}" for line in lines if line.get("level") == "error")

    def counter(self, name: str) -> float:
        """Return the sum of a counter's samples at /metrics, over all labels."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name
        )

    def stored_requests(self) -> int:
        """Return the requests counted in the database, as any other process sees them."""
        [(stored,)] = self.rows("SELECT sum(requests) FROM embeddings_usagehour")
        return int(stored or 0)

    @contextlib.contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Let nobody write to a table of the database; with SQLite, to any."""
        if stores := databases.stores_of(self.data_dir):
            with databases.locked(stores["DATABASE_URL"], table):
                yield
            return
        path = self.data_dir / "db.sqlite3"
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            yield
            file.execute("ROLLBACK")

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in the server's database; return what it answers."""
        if stores := databases.stores_of(self.data_dir):
            return databases.rows_of(stores["DATABASE_URL"], statement)
        path = self.data_dir / "db.sqlite3"
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as file, file:
            return file.execute(statement).fetchall()

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"The server gave up:\n{self.output}")
        with socket.socket() as probe:  # costs nothing, unlike a request
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
        try:
            return requests.get(f"{self.url}/readyz", timeout=30).status_code == 200
        except (requests.ConnectionError, requests.Timeout):
            return False

    def _cluster(self) -> int | None:
        try:
            return int((self.data_dir / "jobs" / "cluster.lock").read_text())
        except (OSError, ValueError):
            return None


def session_of(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return -1


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_called(title: str, process: psutil.Process) -> bool:
    """Whether a process calls itself so, as `ps` shows it."""
    try:
        return title in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def proportional_set_size(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0
