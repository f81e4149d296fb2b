"""What the front refuses by itself, as JSON like all other errors."""

import functools
import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus


class Refused(Exception):
    """A request that goes no further. `detail` is for the client; the connection ends with the answer."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.headers = headers or {}


def busy(detail: str) -> Refused:
    """Return the refusal of a client that may come again soon."""
    return Refused(503, detail, headers={"Retry-After": "1"})


def refusal(refused: Refused, request_id: str) -> bytes:
    """Return the whole answer."""
    from embeddings.api.exception_handler import Problem  # needs Django set up
    from embeddings.api.json_types import as_json

    problem = Problem(status=refused.status, detail=refused.detail)
    return whole(
        refused.status,
        as_json(problem.body()),
        {"X-Request-ID": request_id, **refused.headers},
    )


def whole(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return an answer of JSON after which the connection ends."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "X-Content-Type-Options: nosniff",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"Date: {date_of(int(time.time()))}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@functools.lru_cache(maxsize=2)
def date_of(second: int) -> str:
    """Return a moment as HTTP writes it."""
    return formatdate(second, usegmt=True)
