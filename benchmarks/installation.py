"""An installation of several nodes on one machine: each part can be killed, held still, and started again as it was.

Web nodes behind nginx, workers, PostgreSQL, Redis, and upstreams whose vectors are known, the second in the pool of the
first; every node and worker has a DATA_DIR of its own.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil

from benchmarks.contestants import REPOSITORY
from benchmarks.fault_record import Api
from benchmarks.preparation import fresh_data_folder
from benchmarks.servers import Server, free_port, hold, request, state_of, title_of
from tests.servers import PostgresServer, RedisServer, send

READY_SECONDS = 120.0
FLUSH_SECONDS = 3.0  # EMBEDDINGS_USAGE_FLUSH as it is
UPSTREAMS = ("first", "second")
MODEL, SPACE = "known", "known-space"
PASSWORD = "correct horse battery"  # noqa: S105
SECRET = "The-Secret-Of-This-Benchmark-0123456789"  # noqa: S105
# What the operator of several nodes sets; else the defaults. REQUEST_TIMEOUT is what a held upstream costs.
COMMON = {
    "AUTH_MODE": "multi_user",
    "AUTH_TRUSTED_PROXIES": "1",
    "JWT_SECRET_KEY": SECRET,
    "SECRET_KEY": SECRET,
    "MEDIA_WEBHOOK_SECRET": SECRET,
    "WEB_CONCURRENCY": "2",
    "WEB_THREADS": "16",
    "EMBEDDINGS_RATE_LIMIT": "on",
    "RATE_LIMIT_PER_MINUTE": "100000",
    "RATE_LIMIT_BURST": "10000",
    "EMBEDDINGS_REQUEST_TIMEOUT": "10",
    "EMBEDDINGS_FALLBACK_CHAIN": json.dumps({"first": ["second"], "second": ["first"]}),
}
# Around what deploy/nginx/ ships, of which only addresses are changed, and TLS is taken away.
SHIPPED = REPOSITORY / "deploy" / "nginx"
NGINX = """
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    log_format tries '$msec $request_method $uri $status $upstream_status $request_time';
    access_log {folder}/access.log tries;
    include {folder}/shipped.conf;
}}
"""
SET_UP = """
import json
from django.contrib.auth.models import User
from embeddings.access.api_keys import NewKey, create_key
from embeddings.services.callers import CallerLimits
from providers.models import ModelEntry, ProviderSetting
for name, address in {upstreams!r}.items():
    pool = "first" if name == "second" else ""
    ProviderSetting.objects.create(name=name, kind="local_api", base_url=address, pool=pool)
    ModelEntry.objects.create(
        provider=name, name={model!r}, dimensions={dimensions}, max_tokens=8000, vector_space={space!r}
    )
keys = {{}}
for name in {names!r}:
    make = User.objects.create_superuser if name == "root" else User.objects.create_user
    user = make(name, password={password!r})
    wanted = NewKey(
        name="", expires_at=None, allowed_providers=[], allowed_models=[], read_only_media=False, limits=CallerLimits()
    )
    keys[name] = create_key(user, wanted)[1]
print(json.dumps(keys))
"""


class Part(Protocol):
    """What can fail."""

    def processes(self) -> list[psutil.Process]:
        """Return those that live, parents before children."""

    def kill(self) -> None:
        """End all its processes at once, without a word."""

    def start(self) -> None:
        """Start it again, where it was and with what it had on disk."""

    def answers(self) -> bool:
        """Whether it does its work."""


@dataclass(slots=True, kw_only=True)
class Program:
    """A program of this project's, or nginx."""

    name: str
    command: list[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    ready: Callable[[int], bool] = lambda port: True
    _server: Server | None = None

    def start(self) -> None:
        self._server = Server(
            [part.format(port=self.port) for part in self.command],
            port=self.port,
            log=self.folder / f"{self.name}.log",
            environment={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "PORT": str(self.port),
                **self.environment,
            },
            cwd=REPOSITORY,
        )

    @property
    def server(self) -> Server:
        assert self._server is not None, f"{self.name} was not started"  # noqa: S101
        return self._server

    def processes(self) -> list[psutil.Process]:
        processes = self.server.tree.processes()
        return [one for one in processes if state_of(one) != psutil.STATUS_ZOMBIE]

    def find(self, title: str) -> list[psutil.Process]:
        """Return its processes that call themselves so."""
        return [one for one in self.processes() if title in title_of(one)]

    def kill(self) -> None:
        processes = self.processes()
        hold(processes)
        for process in processes:
            send(process, signal.SIGKILL)
        self.server.stop()

    def stop(self) -> None:
        """End it as an operator does."""
        if self._server is not None:
            self._server.stop()

    def answers(self) -> bool:
        return self.ready(self.port)


class Database(PostgresServer):
    """PostgreSQL as a part."""

    def shut_down(self) -> None:
        """Stop it at once: connections are told, nothing is written."""
        main = self.processes()[0]
        main.send_signal(signal.SIGQUIT)
        psutil.wait_procs([main], timeout=20)

    def answers(self) -> bool:
        import psycopg

        try:
            with psycopg.connect(
                host=self.folder, user="postgres", connect_timeout=2
            ) as database:
                database.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


class Redis(RedisServer):
    """Redis as a part."""

    def answers(self) -> bool:
        import redis

        try:
            return bool(redis.Redis.from_url(self.url, socket_timeout=1).ping())
        except redis.RedisError:
            return False


class Installation:
    """All parts, started: `nodes` web nodes, as many workers.

    `name`: of the database, and of the folder with every DATA_DIR. `users`: who has a key, in `keys`, beside root.
    `more`: further settings. `port` is nginx's.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        users: list[str],
        nodes: int = 2,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self._more = folder, more or {}
        self.name = name
        self.users, self.keys = ["root", *users], dict[str, str]()
        self.upstreams = [self._upstream(name) for name in UPSTREAMS]
        self.database, self.redis = Database(), Redis()
        self.url = self.database.create_database(name)
        self.nodes = [self._node(f"node-{n + 1}") for n in range(nodes)]
        self.workers = [self._worker(f"worker-{n + 1}") for n in range(nodes)]
        self.proxy = self._proxy()
        self.port = self.proxy.port
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        first, *others = self.nodes
        for part in (*self.upstreams, first):
            part.start()
        wait_until(first.answers, what="the first node")
        self.keys = self._set_up()
        for part in (*others, *self.workers, self.proxy):
            part.start()
        wait_until(self.is_well, what="all nodes")

    def is_well(self) -> bool:
        """Whether all parts do their work."""
        return all(part.answers() for part in self.parts())

    def upstreams_are_well(self) -> bool:
        """Whether all is well, and the breakers of the upstreams know it."""
        root = Api(port=self.port, key=self.keys["root"])
        breakers = root.call("GET", "/embeddings/circuit-breakers")["data"]
        states = {one["provider"]: one["state"] for one in breakers}
        return self.is_well() and all(states[name] == "closed" for name in UPSTREAMS)

    def parts(self) -> Iterator[Program | Database | Redis]:
        """Yield all, in the order in which they need one another."""
        yield self.database
        yield self.redis
        yield from self.upstreams
        yield from (*self.nodes, *self.workers, self.proxy)

    def stop_programs(self) -> None:
        """End the nodes and workers, which store what they have counted."""
        for program in (self.proxy, *self.nodes, *self.workers, *self.upstreams):
            program.stop()

    def stop(self) -> None:
        self.stop_programs()
        self.redis.stop()
        self.database.stop()

    def sent_twice(self) -> int:
        """Return how many requests nginx sent to a second node."""
        lines = (self.folder / "nginx" / "access.log").read_text().splitlines()
        return sum("," in line for line in lines)

    def environment(self, data_dir: Path) -> dict[str, str]:
        return {
            **COMMON,
            **self._more,
            "DATABASE_URL": self.url,
            "CACHE_URL": self.redis.url,
            "DATA_DIR": str(data_dir),
        }

    def _node(self, name: str) -> Program:
        environment = self.environment(fresh_data_folder(f"{self.name}/{name}"))
        return Program(
            name=name,
            command=[sys.executable, "manage.py", "serve"],
            folder=self.folder,
            environment={**environment, "MEDIA_WORKERS": "0"},
            ready=lambda port: request(port, "/readyz") is not None,
        )

    def _worker(self, name: str) -> Program:
        worker = Program(
            name=name,
            command=[sys.executable, "manage.py", "runworker"],
            folder=self.folder,
            environment=self.environment(fresh_data_folder(f"{self.name}/{name}")),
        )
        worker.ready = lambda port: bool(worker.find("qcluster"))
        return worker

    def _upstream(self, name: str) -> Program:
        return Program(
            name=name,
            command=[sys.executable, "-m", "benchmarks.peers.known_upstream", "{port}"],
            folder=self.folder,
            ready=lambda port: (
                request(
                    port,
                    "/v1/embeddings",
                    method="POST",
                    body=b'{"model": "known", "input": "there?"}',
                )
                is not None
            ),
        )

    def _proxy(self) -> Program:
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            sys.exit("nginx is missing: apt-get install nginx-light")
        folder, port = self.folder / "nginx", free_port()
        folder.mkdir(exist_ok=True)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
        (folder / "shipped.conf").write_text(self._shipped(port))
        folder.chmod(0o777)  # nginx gives up root's rights
        self.folder.chmod(0o755)
        return Program(
            name="nginx",
            command=[program, "-c", f"{folder}/nginx.conf", "-g", "daemon off;"],
            folder=self.folder,
            port=port,
            ready=lambda port: request(port, "/healthz") is not None,
        )

    def _shipped(self, port: int) -> str:
        """Return nginx's configuration as it is shipped, for these nodes, without TLS."""
        text = "".join(file.read_text() for file in sorted(SHIPPED.glob("*.conf")))
        text = re.sub(r"^ *ssl_.*;.*$", "", text, flags=re.MULTILINE)
        changes = {
            "listen 80;": f"listen 127.0.0.1:{free_port()};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{port};",
            "127.0.0.1:8000": f"127.0.0.1:{self.nodes[0].port}",
            "127.0.0.1:8001": f"127.0.0.1:{self.nodes[-1].port}",
            "server_name host.example;": "",
        }
        for old, new in changes.items():
            if old not in text:
                raise ValueError(f"{old} is not in {SHIPPED}")
            text = text.replace(old, new)
        return text

    def _set_up(self) -> dict[str, str]:
        from benchmarks.peers.known_upstream import DIMENSIONS

        script = SET_UP.format(
            upstreams={
                one.name: f"http://127.0.0.1:{one.port}" for one in self.upstreams
            },
            model=MODEL,
            dimensions=DIMENSIONS,
            space=SPACE,
            names=self.users,
            password=PASSWORD,
        )
        keys: dict[str, str] = self.ask_inside(script)
        return keys

    def ask_inside(self, script: str) -> Any:
        """Run a script in the first node's environment and return the JSON that it prints last."""
        done = subprocess.run(  # noqa: S603
            [sys.executable, "manage.py", "shell", "-c", script],
            cwd=REPOSITORY,
            env={**os.environ, **self.nodes[0].environment, "LOG_LEVEL": "error"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])


def wait_until(
    happened: Callable[[], bool], *, what: str, seconds: float = READY_SECONDS
) -> None:
    """Return once that is so. Raises RuntimeError."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise RuntimeError(f"This never came: {what}")
        time.sleep(0.1)
