"""From the bytes of a connection to a whole request."""

import contextlib
import socket
import time
from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any

from embeddings_project.front import heads
from embeddings_project.front.admission import admitted
from embeddings_project.front.bodies import Incoming
from embeddings_project.front.connections import NEVER, Connection, State
from embeddings_project.front.heads import Head, Proxies
from embeddings_project.front.limits import Budget, FrontConf, Pace


class Reader:
    """Takes requests out of connections' buffers. Raises Refused for what goes no further."""

    def __init__(
        self,
        conf: FrontConf,
        *,
        environ: Mapping[str, Any],
        proxies: Proxies,
        budget: Budget,
    ) -> None:
        self._conf, self._environ = conf, environ
        self._proxies, self._budget = proxies, budget

    def head(self, connection: Connection) -> Head | None:
        """Return the head, or None while it is not whole."""
        now = time.monotonic()
        if connection.state is State.IDLE:
            connection.buffer = connection.buffer.lstrip(b"\r\n")
            if not connection.buffer:
                return None
            connection.be(State.HEAD, now, self._conf.header_seconds)
        raw, end, rest = connection.buffer.partition(heads.END)
        if not end or len(raw) > heads.MAX_HEAD_BYTES:
            heads.check_begun(raw)
        if not end:
            return None
        connection.buffer = rest
        head = heads.parse(raw, self._environ_of(connection), self._schemes(connection))
        connection.head = head
        most, over = admitted(head)
        if head.length is None or head.length > len(rest):
            connection.be(State.BODY, now, NEVER)
            rate, seconds = self._conf.min_rate, self._conf.body_seconds
            connection.body = Incoming(
                length=head.length,
                most=most,
                over=over,
                budget=self._budget,
                folder=self._conf.folder,
                pace=Pace(rate=rate, seconds=seconds, now=now),
            )
        return head

    def body(self, connection: Connection, head: Head) -> IO[bytes] | None:
        """Return the body, or None while it is not whole. One that came in chunks has a length then."""
        body, came = connection.body, connection.buffer
        if body is None:
            length = head.length or 0
            connection.buffer = came[length:]
            return BytesIO(came[:length])
        body.pace.note(len(came), time.monotonic())
        connection.buffer = b""
        connection.buffer = body.feed(came)
        if body.whole:
            head.environ["CONTENT_LENGTH"] = str(body.size)
            return body.file()
        if head.expects:
            head.expects = False
            with contextlib.suppress(OSError):  # it left, as the next event says
                connection.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    def _environ_of(self, connection: Connection) -> dict[str, Any]:
        if connection.environ is None:
            connection.environ = {
                **self._environ,
                **_addresses(connection.socket),
                "gunicorn.socket": connection.socket,
            }
        return connection.environ.copy()

    def _schemes(self, connection: Connection) -> Mapping[str, str]:
        believed = self._proxies.believes(connection.address)
        return self._proxies.schemes if believed else {}


def _addresses(connection: socket.socket) -> dict[str, str]:
    """Return the environ's addresses of both ends."""
    try:
        client, server = connection.getpeername(), connection.getsockname()
    except OSError:  # it left already
        client, server = ("", 0), ("", 0)
    if not isinstance(server, tuple):  # a Unix socket
        client, server = ("", 0), ("localhost", 80)
    return {
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
    }
