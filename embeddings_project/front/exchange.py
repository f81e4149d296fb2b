"""From the bytes of a connection to the application and back."""

import contextlib
import logging
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import IO, Any

from embeddings_project.front.answers import Answer, ClientLeft, Outgoing
from embeddings_project.front.connections import (
    NEVER,
    READABLE,
    WRITABLE,
    Connection,
    State,
)
from embeddings_project.front.heads import Head, Proxies
from embeddings_project.front.limits import Budget, FrontConf, Pace
from embeddings_project.front.pool import Pool
from embeddings_project.front.reading import Reader
from embeddings_project.front.refusals import Refused, busy, refusal, whole
from embeddings_project.logging import id_of, log_event

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

KEEP_ALIVE_SECONDS = 75.0
READ_BYTES = 2**16
CHUNKED_READ_BYTES = 2**14  # each chunk takes time, and tiny ones are many
LINGER_SECONDS, MAX_LINGER_SECONDS = 2.0, 30.0
MAX_WAITING = 4096
MAX_WAIT_SECONDS = 30.0
LOOK_AFTER_SECONDS = 0.1  # in the queue: the client may have left
BROKEN_SECONDS = 1.0
OWN_LANES = ("/healthz", "/readyz")

log = logging.getLogger(__name__)


class Front:
    """Serves `application` to connections. All methods but `_answer` are for the waiting thread alone."""

    def __init__(
        self,
        application: Application,
        conf: FrontConf,
        *,
        environ: dict[str, Any],
        proxies: Proxies,
        threads: int,
        epoll: select.epoll,
    ) -> None:
        self.draining = False
        self.closed: Counter[str] = Counter()  # by the reason, since it was last told
        self.waiting: dict[Connection, tuple[Head, float]] = {}  # and since when
        self._application, self._conf, self._epoll = application, conf, epoll
        self._budget = Budget(conf.spool_bytes)
        self._reader = Reader(
            conf, environ=environ, proxies=proxies, budget=self._budget
        )
        self._pool = Pool(self._answer, size=threads, name="web")
        # Probes are answered even where all threads of the pool are busy.
        self._lanes = {
            path: Pool(self._answer, size=1, name=path[1:]) for path in OWN_LANES
        }
        self.leave: Callable[[Connection], None] = lambda connection: None

    # Reading

    def on_event(self, connection: Connection) -> None:
        """Go on with a connection that can be read from, or written to if it is WRITING."""
        state = connection.state
        if state in (State.IDLE, State.HEAD, State.BODY):
            if connection.buffer and state is State.IDLE:
                self._advance(connection)  # sent together with the request before it
            else:
                self._read(connection)
        elif state is State.WRITING and connection.outgoing is not None:
            self._write(connection, connection.outgoing)
        elif state is State.LINGERING:
            self._discard(connection)
        elif state is State.BROKEN:
            self._leave_broken(connection)

    def _read(self, connection: Connection) -> None:
        head = connection.head
        in_chunks = head is not None and head.length is None
        size = CHUNKED_READ_BYTES if in_chunks else READ_BYTES
        try:
            data = connection.socket.recv(size)
        except BlockingIOError:
            self._epoll.modify(connection.fd, READABLE)
            return
        except OSError:
            self.leave(connection)
            return
        if data:
            connection.buffer += data
            self._advance(connection)
        elif connection.state is State.IDLE:
            self.leave(connection)
        else:
            part = "body" if head else "request's head"
            detail = f"The {part} ends before it is complete."
            self.refuse(connection, Refused(400, detail))

    def _advance(self, connection: Connection) -> None:
        """Do what the bytes at hand allow."""
        try:
            head = connection.head or self._reader.head(connection)
            body = self._reader.body(connection, head) if head else None
            if head is None or body is None:
                self._epoll.modify(connection.fd, READABLE)
            else:
                self._dispatch(connection, head, body)
        except Refused as refused:
            self.refuse(connection, refused)

    def _pace(self, seconds: float, now: float) -> Pace:
        return Pace(rate=self._conf.min_rate, seconds=seconds, now=now)

    # Answering

    def _dispatch(self, connection: Connection, head: Head, body: IO[bytes]) -> None:
        """Hand a whole request to a thread."""
        path = head.path.rstrip("/")
        lane = path[path.rfind("/") :] if path else ""
        if self.draining and lane == "/readyz":
            answer = b'{"status":"not ready","problem":"draining"}'
            self._end_with(connection, whole(503, answer, {"Retry-After": "1"}))
            return
        head.environ["wsgi.input"] = body
        pool = self._lanes.get(lane, self._pool)
        if len(self.waiting) >= MAX_WAITING:
            raise busy("Too many requests wait to be served; try again.")
        now = time.monotonic()
        connection.be(State.ANSWERING, now, NEVER)
        self.waiting[connection] = head, now
        pool.put(connection)

    def look(self) -> bool:
        """Start what may be started; return whether requests wait for a thread."""
        return self._pool.look()

    def _answer(self, connection: Connection) -> None:
        """Answer a request, in a thread of the pool."""
        if (job := self.waiting.pop(connection, None)) is None:
            return  # refused meanwhile
        head, since = job
        outgoing = connection.outgoing = Outgoing(
            connection.socket, self._budget, self._conf.folder
        )
        answer = Answer(
            head, outgoing, keep_alive=head.keep_alive and not self.draining
        )
        broken = False
        try:
            if (
                time.monotonic() - since < LOOK_AFTER_SECONDS
                or not connection.has_left()
            ):
                self._call(head.environ, answer)
        except ClientLeft:
            broken = True
        except Exception:
            log.exception("request_failed")
            broken = answer.begun or not self._apologise(answer, outgoing, head.environ)
        answer.broken = broken or not answer.begun
        self._hand_back(connection, outgoing, answer)

    def _call(self, environ: dict[str, Any], answer: Answer) -> None:
        result = self._application(environ, answer.start)
        try:
            for piece in result:
                answer.write(piece)
            answer.finish()
        finally:
            if close := getattr(result, "close", None):
                close()

    def _apologise(
        self, answer: Answer, outgoing: Outgoing, environ: dict[str, Any]
    ) -> bool:
        failed = Refused(500, "The server failed; its log has the details.")
        answer.begun, answer.keep_alive = True, False
        try:
            outgoing.write(refusal(failed, id_of(environ)))
        except ClientLeft:
            return False
        return True

    def _hand_back(
        self, connection: Connection, outgoing: Outgoing, answer: Answer
    ) -> None:
        """Leave the connection to the waiting thread. Nothing of it may be touched once epoll has it."""
        now = time.monotonic()
        if answer.broken:
            connection.be(State.BROKEN, now, BROKEN_SECONDS)
            with contextlib.suppress(OSError):  # it left, which is an event, too
                connection.socket.shutdown(socket.SHUT_RD)
            self._epoll.modify(connection.fd, READABLE)
        elif outgoing.size:
            outgoing.keeps_alive = answer.keep_alive
            outgoing.pace = self._pace(self._conf.write_seconds, now)
            outgoing.pace.note(outgoing.sent, now)
            connection.be(State.WRITING, now, NEVER)
            self._epoll.modify(connection.fd, WRITABLE)
        else:
            self._after_answer(connection, keep_alive=answer.keep_alive)

    def _after_answer(self, connection: Connection, *, keep_alive: bool) -> None:
        connection.release()
        if not keep_alive:
            self._linger(connection)
            return
        connection.be(State.IDLE, time.monotonic(), KEEP_ALIVE_SECONDS)
        events = WRITABLE if connection.buffer else READABLE
        self._epoll.modify(connection.fd, events)

    def _write(self, connection: Connection, outgoing: Outgoing) -> None:
        """Send on what the client was slow to take."""
        try:
            sent = outgoing.flush()
        except ClientLeft:
            self.leave(connection)
            return
        if outgoing.pace:
            outgoing.pace.note(sent, time.monotonic())
        if outgoing.size:
            self._epoll.modify(connection.fd, WRITABLE)
        else:
            self._after_answer(connection, keep_alive=outgoing.keeps_alive)

    # Ending

    def refuse(self, connection: Connection, refused: Refused) -> None:
        """Answer without the application, and end the connection."""
        head = connection.head
        request_id = id_of(head.environ if head else {})
        log_event(
            log,
            "request_refused",
            request_id=request_id,
            method=head.method if head else "",
            path=head.path if head else "",
            status=refused.status,
            reason=refused.detail,
            address=connection.address,
        )
        self._end_with(connection, refusal(refused, request_id))

    def turn_away(self, connection: Connection, refused: Refused) -> None:
        """End a connection before it has said anything; many at once are one line of the log."""
        self._end_with(connection, refusal(refused, id_of({})))

    def _end_with(self, connection: Connection, answer: bytes) -> None:
        with contextlib.suppress(OSError):  # it left, as the next event says
            connection.socket.send(answer)
        self._linger(connection)

    def _leave_broken(self, connection: Connection) -> None:
        if connection.outgoing and connection.outgoing.found_no_space:
            self.closed["no space for answers that wait"] += 1
            self._abort(connection)
        else:
            self.leave(connection)

    def _abort(self, connection: Connection) -> None:
        """Close a connection whose client takes nothing, and have the system forget what it holds for it."""
        at_once = struct.pack("ii", 1, 0)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        self.leave(connection)

    def _linger(self, connection: Connection) -> None:
        """Wait until the client closes: closing first, with bytes unread, would take the answer from it."""
        connection.release()
        connection.buffer = b""
        now = time.monotonic()
        connection.ends_at = now + MAX_LINGER_SECONDS
        connection.be(State.LINGERING, now, LINGER_SECONDS)
        with contextlib.suppress(OSError):  # it left, as the next event says
            connection.socket.shutdown(socket.SHUT_WR)
        self._epoll.modify(connection.fd, READABLE)

    def _discard(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            data = b"\0"
        except OSError:
            data = b""
        if not data:
            self.leave(connection)
            return
        connection.deadline = min(time.monotonic() + LINGER_SECONDS, connection.ends_at)
        self._epoll.modify(connection.fd, READABLE)

    def expire(self, connection: Connection, now: float) -> None:
        """End a connection that takes too long."""
        body, outgoing = connection.body, connection.outgoing
        if connection.state is State.BODY:
            if body and body.pace.too_slow(now):
                self.closed["slow to send its body"] += 1
                self.turn_away(connection, Refused(408, "The body came too slowly."))
        elif connection.state is State.WRITING:
            if outgoing and outgoing.pace and outgoing.pace.too_slow(now):
                self.closed["slow to read its answer"] += 1
                self._abort(connection)
        elif now > connection.deadline:
            self._expire_waiting(connection)

    def _expire_waiting(self, connection: Connection) -> None:
        if connection.state is State.HEAD:
            self.closed["slow to send its head"] += 1
            late = Refused(408, "The request's head took too long.")
            self.turn_away(connection, late)
            return
        if connection.state is State.IDLE:
            self.closed["idle"] += 1
        self.leave(connection)

    def refuse_stale(self, now: float) -> None:
        """Refuse requests that no thread has taken up for too long."""
        for connection, (_, since) in [*self.waiting.items()]:
            if now - since < MAX_WAIT_SECONDS:
                return
            if self.waiting.pop(connection, None) is not None:
                self.refuse(connection, busy("All threads are busy; try again."))
