"""One POST to an upstream: pooled, within a deadline, bounded in size, never
redirected.

Failures are raised without their cause on purpose: httpx's exceptions hold the request
with its key and address, and protocol errors quote the upstream's bytes. The class name
of the cause is in the message instead.
"""

import logging
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
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
from providers.remote.transport import Addresses, DeadlineTransport

MAX_ERROR_BYTES = 64 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# They would write addresses (INFO) and headers (DEBUG) into the log.
logging.getLogger("httpx2").setLevel(logging.WARNING)
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
        self._clients: dict[int, httpx2.Client] = {}
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
        except (httpcore2.TimeoutException, httpx2.TimeoutException):
            failure = ProviderTimeout(f"{self._provider} did not answer in time.")
        except (httpx2.DecodingError, zlib.error):
            failure = ProviderMalformed(
                f"{self._provider} answered with a body that cannot be unpacked."
            )
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.ProxyError,
            httpx2.HTTPError,
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
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()

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
        client = self._client()
        with client.stream(
            "POST", url, headers=dict(headers), content=content, timeout=seconds
        ) as response:
            succeeded = response.status_code == 200
            body: bytes | None = b""
            if max_bytes is not None:
                body = self._read(response, max_bytes if succeeded else MAX_ERROR_BYTES)
            if body is None and succeeded:
                raise ProviderMalformed(
                    f"{self._provider} answered with more than {max_bytes} bytes."
                )
            return Reply(
                status=response.status_code,
                headers={
                    name.lower(): value for name, value in response.headers.items()
                },
                payload=_json(body),
            )

    def _read(self, response: httpx2.Response, max_bytes: int) -> bytes | None:
        """Return the body, or None as soon as it proves longer than `max_bytes`."""
        declared = response.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > max_bytes:
            return None
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > max_bytes:
                return None
        return bytes(body)

    def _client(self) -> httpx2.Client:
        client = self._clients.get(os.getpid())
        if client is not None:
            return client
        with self._lock:
            return self._clients.setdefault(os.getpid(), self._connect())

    def _connect(self) -> httpx2.Client:
        # The environment's proxies are not taken: a stray HTTP_PROXY would see keys and
        # texts of http:// upstreams.
        return httpx2.Client(
            transport=DeadlineTransport(
                proxy_url=self._proxy_url, addresses=self._addresses
            ),
            headers={
                "user-agent": "embeddings-server",
                "accept": "application/json",
                "accept-encoding": "gzip",
            },
            follow_redirects=False,
            trust_env=False,
        )


def _json(body: bytes | None) -> Json:
    """Parse strictly (no NaN, no Infinity), from a byte order mark on; None for anything that is not JSON."""
    if not body:
        return None
    try:
        return orjson.loads(body.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError:
        return None
