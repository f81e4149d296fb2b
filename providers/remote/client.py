"""One POST to an upstream: pooled, within a deadline, bounded in size, never
redirected.

It calls httpcore's pool itself: through httpx's client, a call takes over half as much
processor time again. httpx reads addresses and unpacks what is no gzip.

Failures are raised without their cause on purpose: protocol errors quote the upstream's
bytes. The class name of the cause is in the message instead.
"""

import logging
import os
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock

import httpcore2
import httpx2
import orjson

from providers.exceptions import (
    ProviderError,
    ProviderMalformed,
    ProviderTimeout,
    ProviderUnavailable,
)
from providers.remote.answers import Json
from providers.remote.deadline import Deadline, current_deadline
from providers.remote.transport import Addresses, core_url, open_pool

MAX_ERROR_BYTES = 64 * 1024
UNPACKED_PIECE_BYTES = 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# By lower-case name, as it is sent.
_Headers = dict[str, tuple[bytes, bytes]]
_HEADERS: _Headers = {
    "connection": (b"Connection", b"keep-alive"),
    "user-agent": (b"user-agent", b"embeddings-server"),
    "accept": (b"accept", b"application/json"),
    "accept-encoding": (b"accept-encoding", b"gzip"),
}

# It would write headers (DEBUG) into the log.
logging.getLogger("httpcore2").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An upstream's answer. `payload` is None if the body is no JSON; header names are
    lower-case.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    payload: Json = field(repr=False)


class HttpClient:
    """The connections of one provider. Safe for threads; a forked child starts with
    none of its parent's.
    """

    def __init__(
        self,
        provider: str,
        *,
        proxy_url: str | None = None,
        addresses: Addresses | None = None,
    ) -> None:
        self._provider = provider
        self._proxy_url = proxy_url
        self._addresses = addresses
        self._pools: dict[int, httpcore2.ConnectionPool] = {}
        self._lock = Lock()

    def post(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes,
        deadline: Deadline,
        max_bytes: int | None,
    ) -> Reply:
        """Send `content` (JSON) and return the answer, at most `max_bytes` long once
        unpacked; None: its body is not read.

        Raises ProviderTimeout, ProviderUnavailable (no connection, or a broken one) and
        ProviderMalformed (too long, badly packed).
        """
        failure: ProviderError
        token = current_deadline.set(deadline)
        try:
            return self._exchange(url, headers, content, deadline, max_bytes)
        except ProviderError:
            raise
        except httpcore2.TimeoutException:
            failure = ProviderTimeout(f"{self._provider} did not answer in time.")
        except (httpx2.DecodingError, zlib.error):
            failure = ProviderMalformed(
                f"{self._provider} answered with a body that cannot be unpacked."
            )
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.ProxyError,
            httpx2.InvalidURL,
            OSError,
        ) as error:
            failure = ProviderUnavailable(
                f"The connection to {self._provider} failed ({type(error).__name__})."
            )
        finally:
            current_deadline.reset(token)
        # Raised here, so that the library's own exception, headers and all, is not its context.
        try:
            raise failure
        finally:
            del failure  # else it would hold itself through this frame

    def close(self) -> None:
        """Close this process's connections; the next call opens new ones."""
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.close()

    def _exchange(
        self,
        url: str,
        headers: Mapping[str, str],
        content: bytes,
        deadline: Deadline,
        max_bytes: int | None,
    ) -> Reply:
        seconds = deadline.remaining_seconds()
        if seconds <= 0:
            raise ProviderTimeout(f"{self._provider} was not called: the time is up.")
        target, ours, credentials = _target(url)
        theirs = {
            name.lower(): (name.encode("ascii"), value.encode("ascii"))
            for name, value in headers.items()
        }
        sent = ours | theirs | credentials
        request = httpcore2.Request(
            b"POST",
            target,
            headers=[*sent.values(), (b"Content-Length", b"%d" % len(content))],
            content=content,
            # For a free connection; the deadline bounds everything else.
            extensions={"timeout": {"pool": seconds}},
        )
        response = self._pool().handle_request(request)
        try:
            return self._reply(response, max_bytes)
        finally:
            response.close()

    def _reply(self, response: httpcore2.Response, max_bytes: int | None) -> Reply:
        headers = _joined(response.headers)
        succeeded = response.status == 200
        body: bytes | None = b""
        if max_bytes is not None:
            body = _read(response, headers, max_bytes if succeeded else MAX_ERROR_BYTES)
        if body is None and succeeded:
            raise ProviderMalformed(
                f"{self._provider} answered with more than {max_bytes} bytes."
            )
        return Reply(status=response.status, headers=headers, payload=_json(body))

    def _pool(self) -> httpcore2.ConnectionPool:
        pool = self._pools.get(os.getpid())
        if pool is not None:
            return pool
        with self._lock:
            # The environment's proxies are not taken: a stray HTTP_PROXY would see keys
            # and texts of http:// upstreams.
            return self._pools.setdefault(
                os.getpid(),
                open_pool(proxy_url=self._proxy_url, addresses=self._addresses),
            )


@lru_cache(maxsize=64)
def _target(address: str) -> tuple[httpcore2.URL, _Headers, _Headers]:
    """Return the address as httpcore takes it, the headers of a call to it, and the one
    that replaces the caller's: its user and password.
    """
    url = httpx2.URL(address)
    if url.scheme not in ("http", "https") or not url.host:
        raise httpx2.InvalidURL("neither http nor https, or no host")
    credentials: _Headers = {}
    if url.username or url.password:
        pair = b64encode(f"{url.username}:{url.password}".encode())
        credentials["authorization"] = (b"Authorization", b"Basic " + pair)
    return core_url(url), {"host": (b"Host", url.netloc), **_HEADERS}, credentials


def _joined(
    raw: Sequence[tuple[bytes, bytes]], encoding: str = "utf-8"
) -> dict[str, str]:
    """Return headers by lower-case name, those of one name joined with commas."""
    joined: dict[str, str] = {}
    try:
        for raw_name, raw_value in raw:
            name, value = raw_name.decode().lower(), raw_value.decode(encoding)
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
    except UnicodeDecodeError:
        return _joined(raw, "iso-8859-1")
    return joined


def _read(
    response: httpcore2.Response, headers: Mapping[str, str], max_bytes: int
) -> bytes | None:
    """Return the body, or None as soon as it proves longer than `max_bytes`."""
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        return None
    chunks: Iterable[bytes] = response.iter_stream()
    packed = headers.get("content-encoding", "").lower()
    if packed == "gzip":
        chunks = _gunzipped(chunks)
    elif packed:  # not what was asked for
        chunks = httpx2.Response(
            response.status, headers=response.headers, content=chunks
        ).iter_bytes()
    body, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            return None
        body.append(chunk)
    return b"".join(body)


def _gunzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack in pieces, at half of httpx's cost. What follows the first member is passed over."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    for chunk in chunks:
        rest = chunk
        while rest and not unpacker.eof:
            yield unpacker.decompress(rest, UNPACKED_PIECE_BYTES)
            rest = unpacker.unconsumed_tail
    yield unpacker.flush()


def _json(body: bytes | None) -> Json:
    """Parse strictly (no NaN, no Infinity), from a byte order mark on; None for anything that is not JSON."""
    if not body:
        return None
    try:
        return orjson.loads(body.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError:
        return None
