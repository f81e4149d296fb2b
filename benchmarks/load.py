"""A lean load generator: one thread, many kept-alive connections, in a process of its own.

It shares the processor with the server under test, so it does no more than HTTP needs: requests are encoded once, and
of an answer only the status and the length are read.
"""

import json
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

READ_BYTES = 1 << 18
GIVE_UP_SECONDS = 900.0
LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Requests that are sent in order over `connections` connections, each sending its next once it has its answer.

    It ends with its last body or after `seconds`; requests under way are then waited for, or `abandon`ed.
    A stream that `follows` ends when all others have ended. `keep` has the answers' bodies handed back.
    """

    bodies: Sequence[bytes]
    connections: int = 1
    seconds: float | None = None
    follows: bool = False
    abandon: bool = False
    keep: bool = False


@dataclass(slots=True, kw_only=True)
class Answers:
    """What came back: seconds and number of each request answered with 200, and how many were not.

    `waiting`: seconds that each request had waited in vain when the run ended.
    """

    seconds: list[float] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    errors: int = 0
    first_error: str = ""
    elapsed: float = 0.0
    waiting: list[float] = field(default_factory=list)
    kept: dict[int, str] = field(default_factory=dict)


def send(
    port: int, path: str, headers: Mapping[str, str], streams: Sequence[Stream]
) -> list[Answers]:
    """Send `streams` at once from another process and return the answers of each."""
    with tempfile.TemporaryDirectory() as folder:
        plan = []
        for number, stream in enumerate(streams):
            bodies = Path(folder) / f"{number}.jsonl"
            bodies.write_bytes(b"\n".join(stream.bodies))
            plan.append({**asdict(stream), "bodies": str(bodies)})
        spec = {"port": port, "path": path, "headers": dict(headers), "streams": plan}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load"],
            input=json.dumps(spec),
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[1],
        )
    if done.returncode != 0:
        raise RuntimeError(f"The load generator failed:\n{done.stderr}")
    return [
        Answers(**answers | {"kept": {int(n): b for n, b in answers["kept"].items()}})
        for answers in json.loads(done.stdout)
    ]


class _Connection:
    """One socket and the request it is busy with."""

    def __init__(self, port: int, answers: Answers) -> None:
        self.answers = answers
        self.number = -1
        self.started = 0.0
        self._out = memoryview(b"")
        self._in = bytearray()
        self._body_at = self._end = 0
        self._chunked = False
        self._port = port
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        fresh = socket.create_connection(("127.0.0.1", self._port))
        fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fresh.settimeout(0)
        return fresh

    def start(self, number: int, request: bytes) -> None:
        self.number, self._out = number, memoryview(request)
        self._in.clear()
        self._body_at = self._end = 0
        self._chunked = False
        self.started = time.perf_counter()
        self.write()

    @property
    def writing(self) -> bool:
        return bool(self._out)

    def write(self) -> None:
        try:
            self._out = self._out[self.socket.send(self._out) :]
        except BlockingIOError:
            return

    def read(self) -> bool:
        """Take in what is there; return whether the answer is whole. Raises ConnectionError if it never will be."""
        received = self.socket.recv(READ_BYTES)
        if not received:
            raise ConnectionError("the server closed the connection")
        self._in += received
        if not self._end:
            head, mark, _ = bytes(self._in[:8192]).partition(b"\r\n\r\n")
            if mark:
                self._body_at = len(head) + len(mark)
                length = _content_length(head)
                self._chunked = length is None
                self._end = self._body_at + (length or 0)
        if self._chunked:
            return self._in.endswith(LAST_CHUNK)
        return 0 < self._end <= len(self._in)

    @property
    def status(self) -> int:
        return int(self._in[9:12])

    @property
    def body(self) -> str:
        raw = bytes(self._in[self._body_at :])
        return (b"".join(_chunks(raw)) if self._chunked else raw).decode()

    def renew(self) -> None:
        self.socket.close()
        self.socket = self._connect()


def _content_length(head: bytes) -> int | None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return None


def _chunks(raw: bytes) -> Iterator[bytes]:
    """Yield the data of a chunked body."""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        length = int(size, 16)
        yield raw[:length]
        raw = raw[length + 2 :]


class _Run:
    """All streams of one run, in one loop."""

    def __init__(self, port: int, head: bytes, streams: Sequence[Stream]) -> None:
        self._selector = selectors.DefaultSelector()
        self._begun = time.perf_counter()
        self._head = head
        self._pending: dict[int, Iterator[tuple[int, bytes]]] = {}
        self._busy: dict[int, int] = {}
        self._connections: list[_Connection] = []
        self.streams = streams
        self.answers = [Answers() for _ in streams]
        for index, stream in enumerate(streams):
            self._pending[index] = iter(enumerate(stream.bodies))
            self._busy[index] = 0
            for _ in range(stream.connections):
                connection = _Connection(port, self.answers[index])
                self._connections.append(connection)
                self._selector.register(
                    connection.socket, selectors.EVENT_READ, (connection, index)
                )
                self._next(connection, index)

    def finish(self) -> list[Answers]:
        while any(self._alive(index) for index in range(len(self.streams))):
            for key, events in self._selector.select(0.05):
                connection, index = key.data
                if events & selectors.EVENT_WRITE:
                    connection.write()
                    if not connection.writing:
                        self._watch(connection, index)
                if events & selectors.EVENT_READ:
                    self._receive(connection, index)
        for connection in self._connections:
            if connection.number >= 0:
                waited = time.perf_counter() - connection.started
                connection.answers.waiting.append(waited)
        return self.answers

    def _alive(self, index: int) -> bool:
        """Return whether a stream is still worth waiting for."""
        stream = self.streams[index]
        late = self._late(stream)
        if stream.follows:
            return any(
                self._alive(other)
                for other, leader in enumerate(self.streams)
                if not leader.follows
            )
        return self._busy[index] > 0 and not (late and stream.abandon)

    def _late(self, stream: Stream) -> bool:
        limit = GIVE_UP_SECONDS if stream.seconds is None else stream.seconds
        return time.perf_counter() - self._begun > limit

    def _next(self, connection: _Connection, index: int) -> None:
        """Give a free connection its next request, if there is one."""
        item = None if self._late(self.streams[index]) else self._take(index)
        if item is None:
            self._selector.unregister(connection.socket)
            return
        number, body = item
        self._busy[index] += 1
        connection.start(
            number, self._head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        self._watch(connection, index)

    def _take(self, index: int) -> tuple[int, bytes] | None:
        return next(self._pending[index], None)

    def _watch(self, connection: _Connection, index: int) -> None:
        wanted = selectors.EVENT_READ | (
            selectors.EVENT_WRITE if connection.writing else 0
        )
        self._selector.modify(connection.socket, wanted, (connection, index))

    def _receive(self, connection: _Connection, index: int) -> None:
        try:
            if not connection.read():
                return
            self._note(connection, index)
        except OSError as error:
            self._fail(connection.answers, repr(error))
            self._selector.unregister(connection.socket)
            connection.renew()
            self._selector.register(
                connection.socket, selectors.EVENT_READ, (connection, index)
            )
        self._busy[index] -= 1
        connection.number = -1
        self._next(connection, index)

    def _note(self, connection: _Connection, index: int) -> None:
        now, answers = time.perf_counter(), connection.answers
        answers.elapsed = now - self._begun
        if connection.status != 200:
            self._fail(answers, connection.body[:300])
            return
        answers.seconds.append(now - connection.started)
        answers.numbers.append(connection.number)
        if self.streams[index].keep:
            answers.kept[connection.number] = connection.body

    def _fail(self, answers: Answers, what: str) -> None:
        answers.errors += 1
        answers.first_error = answers.first_error or what


def main() -> None:
    spec = json.load(sys.stdin)
    lines = [f"POST {spec['path']} HTTP/1.1", f"Host: 127.0.0.1:{spec['port']}"]
    lines += [f"{name}: {value}" for name, value in spec["headers"].items()]
    head = "\r\n".join([*lines, "Content-Type: application/json", ""]).encode()
    streams = [
        Stream(**plan | {"bodies": Path(plan["bodies"]).read_bytes().splitlines()})
        for plan in spec["streams"]
    ]
    answers = _Run(spec["port"], head, streams).finish()
    json.dump([asdict(answer) for answer in answers], sys.stdout)


if __name__ == "__main__":
    main()
