"""A connection pool whose every socket operation ends at the request's deadline.

httpcore bounds each read, not the whole: a server that drips one byte a second, in the
headers or in the body, is never late. Here the time left is computed for each
connect, handshake, write and read.
"""

import ssl
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import cache
from threading import Thread
from typing import Any

import httpcore2
import httpx2

from providers.exceptions import bare_copy
from providers.remote.deadline import current_deadline
from providers.waiting import aside

MAX_CONNECTIONS = 100
KEEPALIVE_SECONDS = 30.0
HEAD_END = b"\r\n\r\n"

# Looks a host and port up; what it returns is connected to, in turn, and nothing else.
Addresses = Callable[[str, int], list[str]]


def open_pool(
    *, proxy_url: str | None = None, addresses: Addresses | None = None
) -> httpcore2.ConnectionPool:
    """Return a keep-alive connection pool, shared by threads."""
    options: dict[str, Any] = {
        "ssl_context": _ssl_context(),
        "max_connections": MAX_CONNECTIONS,
        "max_keepalive_connections": MAX_CONNECTIONS // 4,
        "keepalive_expiry": KEEPALIVE_SECONDS,
        "network_backend": _DeadlineBackend(addresses),
    }
    if proxy_url is None:
        return httpcore2.ConnectionPool(**options)
    # User name and password travel as a header, never as part of the address.
    proxy = httpx2.Proxy(proxy_url)
    return httpcore2.HTTPProxy(
        proxy_url=core_url(proxy.url), proxy_auth=proxy.raw_auth, **options
    )


def core_url(url: httpx2.URL) -> httpcore2.URL:
    """Return the address as httpcore takes it: no user, no password, no fragment."""
    return httpcore2.URL(
        scheme=url.raw_scheme,
        host=url.raw_host,
        port=url.port,
        target=url.raw_path,
    )


@cache
def _ssl_context() -> ssl.SSLContext:
    """Verify against the system's certificates, or SSL_CERT_FILE / SSL_CERT_DIR."""
    return httpx2.create_ssl_context()


class _DeadlineBackend(httpcore2.NetworkBackend):
    def __init__(self, addresses: Addresses | None) -> None:
        self._sockets = httpcore2.SyncBackend()
        self._addresses = addresses or (lambda host, port: [host])

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect in a thread of its own: name resolution knows no timeout, and each
        address gets a whole one.
        """
        timeout = _bounded(timeout, httpcore2.ConnectTimeout)
        connection: Future[httpcore2.NetworkStream] = Future()

        def connect() -> None:
            try:
                stream = self._connect(
                    host, port, timeout, local_address, socket_options
                )
            except Exception as error:  # handed to the waiter, whatever it is
                if connection.set_running_or_notify_cancel():
                    connection.set_exception(bare_copy(error))
            else:
                if connection.set_running_or_notify_cancel():
                    connection.set_result(stream)
                else:
                    stream.close()

        Thread(target=connect, name="upstream-connect", daemon=True).start()
        return _DeadlineStream(_wait_for(connection, timeout))

    def _connect(self, host: str, port: int, *options: Any) -> httpcore2.NetworkStream:
        """Connect to the first address that answers. The name stays the certificate's."""
        *others, last = self._addresses(host, port)
        for address in others:
            try:
                return self._sockets.connect_tcp(address, port, *options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return self._sockets.connect_tcp(last, port, *options)


def _wait_for(
    connection: Future[httpcore2.NetworkStream], timeout: float | None
) -> httpcore2.NetworkStream:
    try:
        with aside.get()():
            failure = connection.exception(timeout)
    except TimeoutError:
        if connection.cancel():
            raise httpcore2.ConnectTimeout("deadline passed while connecting") from None
        failure = connection.exception()
    if failure is not None:
        raise bare_copy(failure)
    return connection.result()


class _DeadlineStream(httpcore2.NetworkStream):
    """A request's head waits for its body, and goes with it: one packet, one TLS record, one wake-up of the server."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream
        self._head = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._send(self._taken(), timeout)
        with aside.get()():
            return self._stream.read(
                max_bytes, _bounded(timeout, httpcore2.ReadTimeout)
            )

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer.endswith(HEAD_END) and not self._head:
            self._head = buffer
        elif buffer:
            self._send(self._taken() + buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        timeout = _bounded(timeout, httpcore2.ConnectTimeout)
        return _DeadlineStream(
            self._stream.start_tls(ssl_context, server_hostname, timeout)
        )

    def _taken(self) -> bytes:
        head, self._head = self._head, b""
        return head

    def _send(self, buffer: bytes, timeout: float | None) -> None:
        """Write in slices, as a slow reader may stretch one `write` over many socket timeouts."""
        for start in range(0, len(buffer), 65536):
            self._stream.write(
                buffer[start : start + 65536],
                _bounded(timeout, httpcore2.WriteTimeout),
            )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _bounded(
    timeout: float | None, error: type[httpcore2.TimeoutException]
) -> float | None:
    """Return the seconds that this socket operation may take: httpcore's own figure or
    what the deadline leaves.
    """
    deadline = current_deadline.get()
    if deadline is None:
        return timeout
    remaining = deadline.remaining_seconds()
    if remaining <= 0:
        raise error("deadline passed")
    return remaining if timeout is None else min(timeout, remaining)
